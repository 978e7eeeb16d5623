package platformfile

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/postern-net/postern"
)

// shape is a file laid over the type that it should have: where each field
// stands, and what does not fit.
type shape struct {
	positions map[string]*token.Token // by field path, such as "segments[0].id"
	problems  []Problem
}

func readShape(root *ast.MappingNode, t reflect.Type) *shape {
	s := &shape{positions: map[string]*token.Token{"": start(root)}}
	s.structure("", root, t)
	return s
}

// has tells whether the file holds a field at all.
func (s *shape) has(field string) bool {
	_, ok := s.positions[field]
	return ok
}

// position is where a field stands or, for one that the file lacks, the
// closest thing around it that the file has.
func (s *shape) position(field string) *token.Token {
	for {
		if tk, ok := s.positions[field]; ok {
			return tk
		}
		field = field[:max(0, strings.LastIndexAny(field, ".["))]
	}
}

func (s *shape) wrong(n ast.Node, field, value, message, fix string) {
	s.problems = append(s.problems, problem(start(n), postern.Invalid(field, value, message, fix)))
}

// value checks a node against the type of the field that it is for.
func (s *shape) value(path string, n ast.Node, t reflect.Type) {
	// A problem of a collection is shown at its key, one of a scalar at itself.
	if _, known := s.positions[path]; !known || isScalar(n) {
		s.positions[path] = start(n)
	}
	if n.Type() == ast.NullType {
		s.wrong(n, path, "", "no value", "give "+expected(t)+", or remove the key")
		return
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		s.text(path, n, t)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		s.structure(path, n, t)
	case reflect.Map:
		s.mapping(path, n, func(entry *ast.MappingValueNode, _, field string) {
			s.value(field, entry.Value, t.Elem())
		})
	case reflect.Slice:
		s.list(path, n, t)
	case reflect.String:
		s.str(path, n, t)
	case reflect.Int:
		s.integer(path, n, t)
	case reflect.Bool:
		if n.Type() != ast.BoolType {
			s.mismatch(path, n, t)
		}
	default:
		panic(fmt.Sprintf("platformfile: no rule to read %s into %s", path, t)) // a field was added to postern.Platform without one
	}
}

// mapping walks the keys of a mapping once each.
func (s *shape) mapping(path string, n ast.Node, each func(entry *ast.MappingValueNode, name, field string)) {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		s.wrong(n, path, glimpse(n), "a "+kindOf(n)+" where keys with values belong", `write "key: value" lines below it`)
		return
	}
	first := map[string]*token.Token{}
	for _, entry := range m.Values {
		tk := entry.Key.GetToken()
		name, field := tk.Value, tk.Value
		if path != "" {
			field = path + "." + name
		}
		if before, again := first[name]; again {
			s.wrong(entry.Key, field, "", fmt.Sprintf("the key stands twice; the first is on line %d", before.Position.Line), "remove one of them")
			continue
		}
		first[name] = tk
		s.positions[field] = tk
		each(entry, name, field)
	}
}

func (s *shape) structure(path string, n ast.Node, t reflect.Type) {
	fields := map[string]reflect.Type{}
	var names []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		fields[name] = f.Type
		names = append(names, name)
	}
	s.mapping(path, n, func(entry *ast.MappingValueNode, name, field string) {
		ft, ok := fields[name]
		if !ok {
			s.wrong(entry.Key, field, "", "unknown key", suggestion(name, names))
			return
		}
		s.value(field, entry.Value, ft)
	})
}

func (s *shape) list(path string, n ast.Node, t reflect.Type) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s.mismatch(path, n, t)
		return
	}
	for i, v := range seq.Values {
		s.value(indexed(path, i), v, t.Elem())
	}
}

func (s *shape) str(path string, n ast.Node, t reflect.Type) {
	v, ok := scalarText(n)
	if !ok {
		s.mismatch(path, n, t)
		return
	}
	// Titles and names reach terminals and logs, where a control character
	// could forge a line.
	if i := strings.IndexFunc(v, unicode.IsControl); i >= 0 {
		s.wrong(n, path, v, "text with a line break or another control character", "write it on one line")
	}
}

func (s *shape) integer(path string, n ast.Node, t reflect.Type) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		s.mismatch(path, n, t)
		return
	}
	switch v := i.Value.(type) {
	case int64:
		ok = v >= -1<<31 && v < 1<<31
	case uint64:
		ok = v < 1<<31
	}
	if !ok {
		s.wrong(n, path, glimpse(n), "a number out of range", "give a smaller one")
	}
}

func (s *shape) text(path string, n ast.Node, t reflect.Type) {
	v, ok := scalarText(n)
	if !ok {
		s.mismatch(path, n, t)
		return
	}
	u, isText := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(t))
	// netip reads the empty text as the zero value; here it is a mistake.
	if !isText || v == "" || u.UnmarshalText([]byte(v)) != nil {
		s.wrong(n, path, v, "not "+expected(t), "write it so")
	}
}

func (s *shape) mismatch(path string, n ast.Node, t reflect.Type) {
	fix := "give " + expected(t)
	if t.Kind() == reflect.String {
		switch n.Type() { //nolint:exhaustive // the scalars that quotes turn into text
		case ast.IntegerType, ast.FloatType, ast.BoolType, ast.InfinityType, ast.NanType:
			fix = "put it in quotes if it is text"
		}
	}
	s.wrong(n, path, glimpse(n), "a "+kindOf(n)+", not "+expected(t), fix)
}

// scalarText is the text of a node that YAML reads as text.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// expected names what belongs into a field, with an example where the form is
// not obvious.
func expected(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.AddrPort]():
		return `an address with a port such as "10.0.1.5:443"`
	case reflect.TypeFor[netip.Prefix]():
		return `a network such as "10.0.1.0/24"`
	}
	switch t.Kind() {
	case reflect.Slice:
		return `a list such as "[a, b]"`
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	default:
		return `"key: value" lines`
	}
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

// glimpse is a scalar as it stands in the file; collections have none.
func glimpse(n ast.Node) string {
	if !isScalar(n) {
		return ""
	}
	return n.GetToken().Value
}

func isScalar(n ast.Node) bool {
	_, ok := n.(ast.ScalarNode)
	return ok
}

// start is where a node begins: the library's own token of a mapping is the
// first colon.
func start(n ast.Node) *token.Token {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	return n.GetToken()
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
	slices.Sort(known)
	return "the keys here are " + strings.Join(known, ", ")
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
