package artifact

import (
	"net/url"
	"regexp"
	"strings"
)

// hidden stands for a secret, as in net/url.
const hidden = "xxxxx"

// addresses are what may be one in a text, up to where one ends in a sentence, in quotes or in JSON.
var addresses = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// Redact takes the secrets out of all addresses in a text: who logs in and with what, and the values of a query, in which a
// signed address has its signature. Where it is, its checksum and its kind stay. It is for everything that people see and for
// every record that nobody has to download by.
func Redact(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	return addresses.ReplaceAllStringFunc(text, redactOne)
}

func redactOne(found string) string {
	plain := strings.TrimRight(found, ".,:;)]}") // the sentence's
	end := found[len(plain):]
	scheme, _, _ := strings.Cut(plain, "://")
	u, err := url.Parse(plain)
	if err != nil {
		return scheme + "://" + hidden + end // where in it a secret stands can't be told
	}
	if u.User == nil && u.RawQuery == "" && u.Fragment == "" {
		return found
	}
	shown := scheme + "://"
	if u.User != nil {
		shown += hidden + "@"
	}
	shown += u.Host + u.EscapedPath()
	if u.RawQuery != "" {
		shown += "?" + redactQuery(u.RawQuery)
	}
	if u.Fragment != "" {
		shown += "#" + hidden
	}
	return shown + end
}

// redactQuery hides all values but those of the parameters that are ours. The checksum may name a sums file, by an address.
func redactQuery(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		name, value, named := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(value); err == nil && (name == "checksum" || name == "archive") {
			if Redact(plain) != plain {
				parts[i] = name + "=" + Redact(plain)
			}
			continue
		}
		parts[i] = hidden
		if named {
			parts[i] = name + "=" + hidden
		}
	}
	return strings.Join(parts, "&")
}

// shown is an address for people.
func shown(u url.URL) string { return Redact(u.String()) }

// redacted is an error without secrets, such as one that names a proxy or where a server has sent us.
type redacted struct{ error }

func (e redacted) Error() string { return Redact(e.error.Error()) }

func (e redacted) Unwrap() error { return e.error }
