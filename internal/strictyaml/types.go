package strictyaml

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

var duration = reflect.TypeFor[time.Duration]()

// mustKnow panics for a type that has a part which no rule here reads.
func mustKnow(t reflect.Type) {
	if readsText(t) {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if _, option, _ := strings.Cut(f.Tag.Get("yaml"), ","); f.Anonymous || strings.Contains(option, "inline") {
				panic(fmt.Sprintf("strictyaml: no rule to read the embedded %s of %s", f.Name, t))
			}
			if keyOf(f) != "" {
				mustKnow(f.Type)
			}
		}
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			panic(fmt.Sprintf("strictyaml: no rule to read keys of %s", t))
		}
		mustKnow(t.Elem())
	case reflect.Slice:
		mustKnow(t.Elem())
	case reflect.String, reflect.Bool,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	default:
		panic(fmt.Sprintf("strictyaml: no rule to read %s", t))
	}
}

// mustKeep panics for a type of which the YAML library would leave out more
// than zero values: to its omitempty, a structure without exported fields, such
// as an address of net/netip, is always empty, and so is one around it.
func mustKeep(t reflect.Type) {
	switch t.Kind() { //nolint:exhaustive // the others hold nothing
	case reflect.Pointer, reflect.Slice, reflect.Map:
		mustKeep(t.Elem())
	case reflect.Struct:
		if readsText(t) {
			return
		}
		for f := range t.Fields() {
			if keyOf(f) == "" {
				continue
			}
			if _, option, _ := strings.Cut(f.Tag.Get("yaml"), ","); strings.HasPrefix(option, "omit") && takenForEmpty(f.Type) {
				panic(fmt.Sprintf("strictyaml: %s of %s would be lost; remove %s", f.Name, t, option))
			}
			mustKeep(f.Type)
		}
	}
}

// takenForEmpty tells types that have values which the YAML library takes for
// empty, and which are not zero.
func takenForEmpty(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t.Implements(reflect.TypeFor[yaml.IsZeroer]()) {
		return false
	}
	exported := false
	for f := range t.Fields() {
		if f.IsExported() {
			exported = true
			if takenForEmpty(f.Type) {
				return true
			}
		}
	}
	return !exported
}

// readsText tells the types that are written as text and are no text.
func readsText(t reflect.Type) bool {
	return t == duration || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// keyOf is a field's key in a file; "": it has none.
func keyOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case !f.IsExported() || name == "-":
		return ""
	case name == "":
		return strings.ToLower(f.Name) // the library's rule
	}
	return name
}

// keysOf lists a structure's keys, in its order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		if key := keyOf(f); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		if key := keyOf(f); key != "" {
			fields[key] = f.Type
		}
	}
	return fields
}

// bounds are the smallest and the largest number of a type. An int has 32 bits
// everywhere, so that a file means the same on every machine.
func bounds(t reflect.Type) (least int64, most uint64) {
	bits := t.Bits()
	switch t.Kind() { //nolint:exhaustive // the others have their bits in their names
	case reflect.Int, reflect.Uint:
		bits = 32
	}
	if t.Kind() >= reflect.Uint {
		return 0, math.MaxUint64 >> (64 - bits)
	}
	return -1 << (bits - 1), 1<<(bits-1) - 1
}

// fits tells whether a number, as the YAML library reads it, is within a type.
func fits(number any, t reflect.Type) bool {
	least, most := bounds(t)
	switch v := number.(type) {
	case int64:
		return v >= least && (v < 0 || uint64(v) <= most)
	case uint64:
		return v <= most
	}
	return false // larger than 64 bits
}

func within(t reflect.Type) string {
	least, most := bounds(t)
	return fmt.Sprintf("from %d to %d", least, most)
}
