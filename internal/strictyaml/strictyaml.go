package strictyaml

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/postern-net/postern"
)

// MaxSize is the size in bytes above which a file is refused unread.
const MaxSize = 1 << 20

// Options are the words in which the errors of a file speak about it.
type Options struct {
	Kind  string // what the file is, such as "platform file"
	Start string // what to do about an empty one; "": list its keys
}

// Read reads a file for [Decode]: at most one byte more than [MaxSize], which
// tells a file that is too large from one that just fits without trusting the
// size that the file system reports. Errors are those of the os package.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxSize+1))
}

// Document is a file that was read: it knows where each field stands.
type Document struct {
	name  string
	shape *shape
}

// Decode reads a file into v, a pointer to a structure whose fields carry yaml
// tags. Name is what errors call the file. Every problem of the file's form is
// in the returned [*Error]; v is then of no use.
func Decode(name string, b []byte, v any, o Options) (*Document, error) {
	t := reflect.TypeOf(v).Elem()
	mustKnow(t)
	root, err := parse(name, b, t, o)
	if err != nil {
		return nil, err
	}
	s := readShape(root, t)
	if len(s.problems) > 0 {
		return nil, &Error{File: name, Problems: inOrder(s.problems)}
	}
	// The shape was checked already; strict decoding is the second lock.
	if err := guard(name, func() error { return yaml.NodeToValue(root, v, yaml.Strict()) }); err != nil {
		return nil, err
	}
	return &Document{name: name, shape: s}, nil
}

// Locate puts positions to a [postern.Error] or [postern.Errors] whose fields
// are paths of the file, such as "segments[0].id", and returns an [*Error]; a
// field that the file lacks stands at the closest thing around it. Any other
// error, also nil, is returned as it is.
func (d *Document) Locate(err error) error {
	var located *Error
	if errors.As(err, &located) {
		return err
	}
	var es postern.Errors
	if !errors.As(err, &es) {
		var e *postern.Error
		if !errors.As(err, &e) {
			return err
		}
		es = postern.Errors{e}
	}
	out := &Error{File: d.name}
	missing := map[string]bool{}
	for _, e := range es {
		// A key that is not there breaks rules about its value; one line says
		// that it is missing and what belongs there.
		if e.Field != "" && e.Value == "" && !d.shape.has(e.Field) {
			if missing[e.Field] {
				continue
			}
			missing[e.Field] = true
			said := *e
			said.Message = "missing"
			e = &said
		}
		out.Problems = append(out.Problems, problem(d.shape.position(e.Field), e))
	}
	out.Problems = inOrder(out.Problems)
	return out
}

// Encode writes a value so that [Decode] reads an equal one back. It panics for
// a type that would lose something, see mustKeep.
func Encode(v any) ([]byte, error) {
	mustKeep(reflect.TypeOf(v))
	root, err := yaml.ValueToNode(v, yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	ast.Walk(quoter{}, root)
	return append([]byte(root.String()), '\n'), nil
}

// quoter puts text in quotes that the library writes plain although it begins
// as an explicit key does (YAML 1.2.2, section 8.2.2): "? ".
type quoter struct{}

func (q quoter) Visit(n ast.Node) ast.Visitor {
	if s, ok := n.(*ast.StringNode); ok && strings.HasPrefix(s.Value, "?") {
		s.Token.Type = token.DoubleQuoteType
	}
	return q
}
