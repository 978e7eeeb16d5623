package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds on what reaches the YAML parser, which recurses with the depth of a
// file and needs time that grows with the square of its keys.
const (
	maxTokens = 20_000
	maxDepth  = 20  // brackets; no file of ours has more than six levels
	maxIndent = 200 // spaces: bounds the depth where there are no brackets
)

// parse turns a file into the one mapping that it must hold.
func parse(name string, b []byte, t reflect.Type, o Options) (*ast.MappingNode, error) {
	check, start := "check that this is a "+o.Kind, o.Start
	if start == "" {
		start = theKeys(keysOf(t))
	}
	switch {
	case len(b) > MaxSize:
		return nil, whole(name, "larger than 1 MiB", check)
	case !utf8.Valid(b):
		return nil, whole(name, "not UTF-8 text", "save the file as UTF-8")
	case len(bytes.TrimSpace(b)) == 0:
		return nil, whole(name, "an empty file", start)
	}
	var file *ast.File
	err := guard(name, func() (err error) {
		tokens := lexer.Tokenize(string(b))
		if err := checkTokens(name, tokens, o); err != nil {
			return err
		}
		// Repeated keys are left to readShape, which reports all of them.
		file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
		return err
	})
	if err != nil {
		return nil, err
	}
	var docs []*ast.DocumentNode
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d)
		}
	}
	if len(docs) == 0 {
		return nil, whole(name, "a file without a value", start)
	}
	if len(docs) > 1 {
		return nil, at(name, docs[1].Body.GetToken(), "a second document", "a "+o.Kind+` is one document; remove what follows "---"`)
	}
	root, ok := docs[0].Body.(*ast.MappingNode)
	if !ok {
		return nil, at(name, docs[0].Body.GetToken(), "not a mapping of keys to values", fmt.Sprintf(`start with "%s: …"`, keysOf(t)[0]))
	}
	return root, nil
}

// checkTokens refuses, before the parser sees them, files that would keep it
// busy or exhaust its stack, and the parts of YAML that let a file mean
// something else than it looks like.
func checkTokens(name string, tokens token.Tokens, o Options) error {
	if len(tokens) > maxTokens {
		return whole(name, "more than "+strconv.Itoa(maxTokens)+" words and signs", "check that this is a "+o.Kind)
	}
	brackets, markers := 0, 0
	for _, tk := range tokens {
		switch tk.Type { //nolint:exhaustive // every other token is ordinary
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType:
			return at(name, tk, "anchors, aliases, merge keys, tags and directives are not part of a "+o.Kind, "write the value out, or put it in quotes if it is text")
		}
		// "- - - a" nests without brackets and without indentation.
		if tk.Type == token.SequenceEntryType || tk.Type == token.MappingKeyType {
			markers++
		} else {
			markers = 0
		}
		if max(brackets, markers) > maxDepth || tk.Position.IndentNum > maxIndent {
			return at(name, tk, "nested too deep", "check that this is a "+o.Kind)
		}
	}
	return nil
}

// guard runs a part of the YAML library. Its errors get positions, and its
// panics become errors.
func guard(name string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = whole(name, fmt.Sprintf("not readable as YAML: %v", p), "look for a sign of YAML that should be in quotes")
		}
	}()
	return located(name, f())
}

// located puts a position to an error of the YAML library.
func located(name string, err error) error {
	var ours *Error
	if err == nil || errors.As(err, &ours) {
		return err
	}
	var ye yaml.Error
	if errors.As(err, &ye) {
		return at(name, ye.GetToken(), "not readable as YAML: "+ye.GetMessage(), "correct the line")
	}
	return whole(name, "not readable as YAML: "+err.Error(), "correct the file")
}
