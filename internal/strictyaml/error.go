package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"

	"github.com/postern-net/postern"
)

// Problem is one thing that is wrong in a file.
type Problem struct {
	Line   int // counted from 1; 0: the file as a whole
	Column int // counted from 1, in characters; 0: the file as a whole
	*postern.Error
}

// Error is everything that is wrong in one file, in the file's order. What is
// wrong with its form has the code [postern.CodeInvalid].
type Error struct {
	File     string
	Problems []Problem
}

// Error lists the problems, one per line, each as "file:line:column: field:
// message (got value); fix".
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		at := e.File
		if p.Line > 0 {
			at = fmt.Sprintf("%s:%d:%d", e.File, p.Line, p.Column)
		}
		lines[i] = at + ": " + p.Error.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find each problem as a *postern.Error.
func (e *Error) Unwrap() []error {
	out := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		out[i] = p.Error
	}
	return out
}

// whole is an error about the file as a whole.
func whole(file, message, fix string) *Error {
	return at(file, nil, message, fix)
}

// at is an error of a file's form where a token stands.
func at(file string, tk *token.Token, message, fix string) *Error {
	return &Error{File: file, Problems: []Problem{problem(tk, postern.Invalid("", "", message, fix))}}
}

func problem(tk *token.Token, e *postern.Error) Problem {
	p := Problem{Error: e}
	if tk != nil && tk.Position != nil {
		p.Line, p.Column = tk.Position.Line, tk.Position.Column
	}
	return p
}

// inOrder sorts the problems by position and puts the same problem at the same
// place only once.
func inOrder(ps []Problem) []Problem {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Field, b.Field))
	})
	return slices.CompactFunc(ps, func(a, b Problem) bool {
		return a.Line == b.Line && a.Column == b.Column && *a.Error == *b.Error
	})
}
