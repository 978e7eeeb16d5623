package strictyaml

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
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

// value checks a node against the type of the field that it is for. The types
// are those of mustKnow.
func (s *shape) value(path string, n ast.Node, t reflect.Type) {
	// A problem of a collection is shown at its key, one of a scalar at itself.
	if _, known := s.positions[path]; !known || isScalar(n) {
		s.positions[path] = start(n)
	}
	if n.Type() == ast.NullType {
		s.wrong(n, path, "", "no value", "give "+expected(t)+", or remove the key")
		return
	}
	if readsText(t) {
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
	case reflect.Bool:
		if n.Type() != ast.BoolType {
			s.mismatch(path, n, t)
		}
	default:
		s.integer(path, n, t)
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
	fields := fieldsOf(t)
	s.mapping(path, n, func(entry *ast.MappingValueNode, name, field string) {
		ft, ok := fields[name]
		switch {
		case !ok:
			s.wrong(entry.Key, field, "", "unknown key", suggestion(name, keysOf(t)))
		case readsText(ft) && ft != duration && isEmptyText(entry.Value):
			// Encode writes the zero address so; to the rules, the key is there
			// and has no value.
			s.positions[field] = start(entry.Value)
		default:
			s.value(field, entry.Value, ft)
		}
	})
}

func (s *shape) list(path string, n ast.Node, t reflect.Type) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s.mismatch(path, n, t)
		return
	}
	for i, v := range seq.Values {
		s.value(path+"["+strconv.Itoa(i)+"]", v, t.Elem())
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
	if !fits(i.Value, t) {
		s.wrong(n, path, glimpse(n), "a number out of range", "give one "+within(t))
	}
}

// text checks a value that is written as text and is of another type.
func (s *shape) text(path string, n ast.Node, t reflect.Type) {
	v, ok := scalarText(n)
	if !ok {
		s.mismatch(path, n, t)
		return
	}
	if !reads(v, t) {
		s.wrong(n, path, v, "not "+expected(t), "write it so")
	}
}

func reads(v string, t reflect.Type) bool {
	if t == duration {
		_, err := time.ParseDuration(v)
		return err == nil
	}
	u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(t))
	// netip reads the empty text as the zero value; here it is a mistake.
	return ok && v != "" && u.UnmarshalText([]byte(v)) == nil
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

func isEmptyText(n ast.Node) bool {
	v, ok := scalarText(n)
	return ok && v == ""
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
