package strictyaml

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// expected names what belongs into a field, with an example where the form is
// not obvious.
func expected(t reflect.Type) string {
	switch t {
	case duration:
		return `a duration such as "30s" or "5m"`
	case reflect.TypeFor[netip.Addr]():
		return `an address such as "10.0.1.5"`
	case reflect.TypeFor[netip.AddrPort]():
		return `an address with a port such as "10.0.1.5:443"`
	case reflect.TypeFor[netip.Prefix]():
		return `a network such as "10.0.1.0/24"`
	}
	switch {
	case readsText(t):
		return "text that can be read as " + t.Name()
	case t.Kind() == reflect.Slice:
		return `a list such as "[a, b]"`
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Struct || t.Kind() == reflect.Map:
		return `"key: value" lines`
	}
	return "a whole number"
}

func kindOf(n ast.Node) string {
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "mapping"
	case ast.SequenceType:
		return "list"
	case ast.BoolType:
		return "true-or-false value"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "number"
	case ast.NullType:
		return "missing value"
	default:
		return "text"
	}
}

// suggestion names the key that was probably meant, or all of them.
func suggestion(name string, known []string) string {
	best, distance := "", 3 // further apart is another word
	for _, k := range known {
		if d := editDistance(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return theKeys(known)
}

func theKeys(known []string) string {
	return "the keys here are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// editDistance counts the insertions, deletions and replacements between two
// words (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
