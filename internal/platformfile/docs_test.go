package platformfile_test

import (
	"encoding"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/platformfile"
)

func TestReferenceNamesEveryKey(t *testing.T) {
	b, err := os.ReadFile("../../docs/platform-file.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := documentedKeys("", reflect.TypeFor[postern.Platform]())
	if len(keys) < 25 {
		t.Fatalf("found only %d keys: %q", len(keys), keys)
	}
	for _, key := range keys {
		if !strings.Contains(string(b), "| `"+key+"` |") {
			t.Errorf("docs/platform-file.md has no row for %s", key)
		}
	}
}

func TestReferenceExampleIsAPlatform(t *testing.T) {
	b, err := os.ReadFile("../../docs/platform-file.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(b), "```yaml\n")
	example, _, ok := strings.Cut(example, "```")
	if !ok {
		t.Fatal("no example")
	}
	if _, err := platformfile.Parse("example.yaml", []byte(example)); err != nil {
		t.Error(err)
	}
}

// documentedKeys lists the paths of a file's keys, with "[]" for the entries of
// a list. A mapping that only holds keys is documented by them.
func documentedKeys(path string, t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		name = strings.TrimPrefix(path+"."+name, ".")
		ft := f.Type
		if ft.Kind() == reflect.Slice {
			ft = ft.Elem()
			if nested(ft) {
				keys = append(keys, name)
				name += "[]"
			}
		}
		if nested(ft) {
			keys = append(keys, documentedKeys(name, ft)...)
			continue
		}
		keys = append(keys, name)
	}
	return keys
}

func nested(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
