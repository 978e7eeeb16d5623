package platformfile

import (
	"bytes"
	"errors"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/postern-net/postern"
)

// Bounds on what reaches the YAML parser, which recurses with the depth of a
// file and needs time that grows with the square of its keys.
const (
	maxTokens = 20_000
	maxDepth  = 20  // brackets; a platform has five levels
	maxIndent = 200 // spaces: bounds the depth where there are no brackets
)

// Parse reads a platform file. Name is what its errors call the file. Every
// problem in the file is in the returned [*Error]; the rules of the domain are
// looked at only once the file is well formed.
func Parse(name string, b []byte) (*postern.Platform, error) {
	root, err := parseDocument(name, b)
	if err != nil {
		return nil, err
	}
	shape := readShape(root, reflect.TypeFor[postern.Platform]())
	if len(shape.problems) > 0 {
		return nil, &Error{File: name, Problems: inOrder(shape.problems)}
	}
	var p postern.Platform
	// The shape was checked already; strict decoding is the second lock.
	if err := yaml.NodeToValue(root, &p, yaml.Strict()); err != nil {
		return nil, syntaxError(name, err)
	}
	if err := p.Validate(); err != nil {
		return nil, located(name, shape, err)
	}
	return &p, nil
}

// parseDocument turns the file into the one mapping that it must hold.
func parseDocument(name string, b []byte) (*ast.MappingNode, error) {
	switch {
	case len(b) > MaxSize:
		return nil, whole(name, "larger than 1 MiB", "a platform file is a few kilobytes; check that this is one")
	case !utf8.Valid(b):
		return nil, whole(name, "not UTF-8 text", "save the file as UTF-8")
	case len(bytes.TrimSpace(b)) == 0:
		return nil, whole(name, "an empty file", "start from the built-in platform: postern platform show immuta")
	}
	tokens := lexer.Tokenize(string(b))
	if err := checkTokens(name, tokens); err != nil {
		return nil, err
	}
	// Repeated keys are left to readShape, which reports all of them.
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(name, err)
	}
	var docs []*ast.DocumentNode
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d)
		}
	}
	if len(docs) == 0 {
		return nil, whole(name, "a file without a value", "start from the built-in platform: postern platform show immuta")
	}
	if len(docs) > 1 {
		return nil, at(name, docs[1].Body.GetToken(), postern.Invalid("", "", "a second document", `a platform file holds one platform; remove what follows "---"`))
	}
	root, ok := docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, at(name, docs[0].Body.GetToken(), postern.Invalid("", "", "not a mapping of keys to values", `start with "name: …"`))
	}
	return root, nil
}

// checkTokens refuses, before the parser sees them, files that would keep it
// busy or exhaust its stack, and the parts of YAML that let a file mean
// something else than it looks like.
func checkTokens(name string, tokens token.Tokens) error {
	if len(tokens) > maxTokens {
		return whole(name, "more than "+strconv.Itoa(maxTokens)+" words and signs", "a platform in every region needs a quarter of that; check that this is one")
	}
	brackets, markers := 0, 0
	for _, tk := range tokens {
		switch tk.Type { //nolint:exhaustive // every other token is ordinary
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType:
			return at(name, tk, postern.Invalid("", tk.Value, "anchors, aliases, merge keys, tags and directives are not part of a platform file", "write the value out, or put it in quotes if it is text"))
		}
		// "- - - a" nests without brackets and without indentation.
		if tk.Type == token.SequenceEntryType || tk.Type == token.MappingKeyType {
			markers++
		} else {
			markers = 0
		}
		if max(brackets, markers) > maxDepth || tk.Position.IndentNum > maxIndent {
			return at(name, tk, postern.Invalid("", "", "nested too deep", "a platform file nests five levels"))
		}
	}
	return nil
}

// syntaxError puts a position to an error of the YAML library.
func syntaxError(name string, err error) error {
	var ye yaml.Error
	if errors.As(err, &ye) {
		return at(name, ye.GetToken(), postern.Invalid("", "", "not readable as YAML: "+ye.GetMessage(), "correct the line"))
	}
	return whole(name, "not readable as YAML: "+err.Error(), "correct the file")
}

// located puts positions to the errors of the domain.
func located(name string, s *shape, err error) error {
	var es postern.Errors
	if !errors.As(err, &es) {
		return err
	}
	out := &Error{File: name}
	missing := map[string]bool{}
	for _, e := range es {
		// A key that is not there breaks rules about its value; one line says
		// that it is missing and what belongs there.
		if e.Value == "" && !s.has(e.Field) {
			if missing[e.Field] {
				continue
			}
			missing[e.Field] = true
			e = postern.Invalid(e.Field, "", "missing", e.Fix)
		}
		out.Problems = append(out.Problems, problem(s.position(e.Field), e))
	}
	out.Problems = inOrder(out.Problems)
	return out
}

func at(name string, tk *token.Token, e *postern.Error) *Error {
	return &Error{File: name, Problems: []Problem{problem(tk, e)}}
}

func problem(tk *token.Token, e *postern.Error) Problem {
	p := Problem{Error: e}
	if tk != nil && tk.Position != nil {
		p.Line, p.Column = tk.Position.Line, tk.Position.Column
	}
	return p
}

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
