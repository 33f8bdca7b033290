package artifact

import (
	"fmt"
	"testing"
)

const registry = `{"chain_name":"x","versions":[
{"name":"v3","tag":"v3.0.1","height":300,"binaries":{"linux/amd64":"https://x/3?checksum=sha256:00"},"next_version_name":""},
{"name":"v1","height":0,"binaries":{"linux/amd64":"https://x/1"}},
{"name":"v2","height":200}]}`

func TestParseRegistry(t *testing.T) {
	for _, tt := range []struct{ name, content, want, wantErr string }{
		{"versions", registry, "v1@0/1 v2@200/0 v3@300/1 ", ""},
		{"chain", `{"chain_name":"x","codebase":{"versions":[{"name":"v2","height":5,"binaries":{"any":"https://x"}}]}}`, "v2@5/1 ", ""},
		{"none", `{"chain_name":"x"}`, "", "it lists no versions"},
		{"bad-name", `{"versions":[{"name":".."}]}`, "", "is not a directory name"},
		{"no-name", `{"versions":[{}]}`, "", "a plan needs a name"},
		{"no-json", `<html>`, "", "invalid character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			versions, err := ParseRegistry([]byte(tt.content))
			checkErr(t, err, tt.wantErr)
			got := ""
			for _, v := range versions {
				got += fmt.Sprintf("%s@%d/%d ", v.Name, v.Height, len(v.Info.Binaries))
			}
			if got != tt.want {
				t.Errorf("versions %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzParseRegistry(f *testing.F) {
	f.Add([]byte(registry))
	f.Fuzz(func(t *testing.T, content []byte) {
		versions, err := ParseRegistry(content)
		if (err == nil) != (len(versions) > 0) {
			t.Errorf("%d versions, %v", len(versions), err)
		}
	})
}
