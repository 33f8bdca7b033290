package supervisor

import (
	"encoding/json"
	"io"
	"reflect"
	"testing"
	"time"

	"solstice/upgrade"
)

// TestHandoverLosesNothing fills in every field of what decisions rest on, hands it over,
// and finds it again. A field that is added and not handed over fails here: what the data
// had applied was lost once, and a reload started an older binary.
func TestHandoverLosesNothing(t *testing.T) {
	var g given
	g.Format = handoverFormat
	fill(t, reflect.ValueOf(&g.Live).Elem(), "Live")
	f, err := g.write()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	var got given
	if err := got.decode(content); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Live, g.Live) {
		t.Errorf("handed over %+v, got %+v", g.Live, got.Live)
	}
}

// notHandedOver are the fields that need not be: the databases are read of a stopped node,
// and only a running one is handed over.
var notHandedOver = map[string]bool{"Live.Disk": true}

// fill gives every field below a value another than its zero value.
func fill(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	if notHandedOver[path] {
		return
	}
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = time.Date(2026, 11, 29, 1, 2, 3, 4, time.UTC)
		return
	case interface{ UnmarshalText([]byte) error }:
		if err := at.UnmarshalText([]byte("1 2 3 4 5")); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("x" + path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(7.5)
	case reflect.Int64, reflect.Int:
		v.SetInt(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(t, v.Index(0), path+"[]")
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Fatalf("%s.%s is not exported, so it is not handed over", path, v.Type().Field(i).Name)
			}
			fill(t, v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	default:
		t.Fatalf("%s: a test of kind %v is missing", path, v.Kind())
	}
}

// TestHandoverRefusesOtherFormats: a version that does not know what it is handed gives it
// back.
func TestHandoverRefusesOtherFormats(t *testing.T) {
	for _, format := range []int{0, handoverFormat + 1} {
		content, err := json.Marshal(map[string]any{"format": format, "live": upgrade.Live{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := new(given).decode(content); err == nil {
			t.Errorf("format %d is taken", format)
		}
	}
}
