// Package query decodes the body of an EC2 Query or STS request: a form whose
// flat names hold structures and 1-based lists ("Filter.1.Value.2"). It knows
// the encoding only, no action and no parameter. A form remembers what was
// asked of it, so that a server can refuse parameters that it does not know.
package query

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of one form. AWS documents none of them; no call of a documented
// journey comes near.
const (
	MaxParameters = 4096
	MaxDepth      = 8
	maxIndex      = 100_000
)

// ErrMalformed is in the chain of every error of [Parse].
var ErrMalformed = errors.New("malformed query string")

// ParameterError tells that a parameter is not of the type that was asked for.
type ParameterError struct {
	Name  string // full name, "Filter.1.Name"
	Value string
	Want  string // "a boolean"
}

// Error names the parameter, its value and what was wanted.
func (e *ParameterError) Error() string {
	return fmt.Sprintf("parameter %s: %q is not %s", e.Name, e.Value, e.Want)
}

// Form is a decoded form, or a structure within one.
type Form struct {
	prefix string
	node   *node
}

type node struct {
	value    string
	set      bool // has a value of its own
	read     bool // the value was asked for
	children map[string]*node
}

// Parse decodes a form. A name that occurs twice, an empty part of a name, too
// many parameters and too deep a name are errors.
func Parse(body []byte) (*Form, error) {
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(values) > MaxParameters {
		return nil, fmt.Errorf("%w: %d parameters, more than %d", ErrMalformed, len(values), MaxParameters)
	}
	root := &node{}
	for name, vs := range values {
		if len(vs) != 1 {
			return nil, fmt.Errorf("%w: parameter %q occurs %d times", ErrMalformed, name, len(vs))
		}
		parts := strings.Split(name, ".")
		if len(parts) > MaxDepth || slices.Contains(parts, "") {
			return nil, fmt.Errorf("%w: parameter name %q", ErrMalformed, name)
		}
		n := root
		for _, p := range parts {
			n = n.child(p)
		}
		n.value, n.set = vs[0], true
	}
	return &Form{node: root}, nil
}

func (n *node) child(name string) *node {
	c := n.children[name]
	if c == nil {
		if n.children == nil {
			n.children = map[string]*node{}
		}
		c = &node{}
		n.children[name] = c
	}
	return c
}

// at finds a node by its dotted path, or nil.
func (f *Form) at(name string) *node {
	n := f.node
	for p := range strings.SplitSeq(name, ".") {
		if n = n.children[p]; n == nil {
			return nil
		}
	}
	return n
}

// Lookup returns a scalar parameter and whether it was given.
func (f *Form) Lookup(name string) (string, bool) {
	n := f.at(name)
	if n == nil || !n.set {
		return "", false
	}
	n.read = true
	return n.value, true
}

// String returns a scalar parameter, or "" when it was not given.
func (f *Form) String(name string) string {
	v, _ := f.Lookup(name)
	return v
}

// Bool returns a boolean parameter and whether it was given.
func (f *Form) Bool(name string) (value, given bool, err error) {
	v, ok := f.Lookup(name)
	switch {
	case !ok:
		return false, false, nil
	case strings.EqualFold(v, "true"):
		return true, true, nil
	case strings.EqualFold(v, "false"):
		return false, true, nil
	}
	return false, true, &ParameterError{Name: f.prefix + name, Value: v, Want: "a boolean"}
}

// Int returns an integer parameter and whether it was given.
func (f *Form) Int(name string) (value int, given bool, err error) {
	v, ok := f.Lookup(name)
	if !ok {
		return 0, false, nil
	}
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil {
		return 0, true, &ParameterError{Name: f.prefix + name, Value: v, Want: "an integer"}
	}
	return int(n), true, nil
}

// List returns the scalars of a list ("SubnetId.1", "SubnetId.2" …) in the
// order of their indices, whose gaps do not matter.
func (f *Form) List(name string) []string {
	n := f.at(name)
	var out []string
	for _, i := range n.indices() {
		if c := n.children[strconv.Itoa(i)]; c.set {
			c.read = true
			out = append(out, c.value)
		}
	}
	return out
}

// Structs returns the structures of a list ("Filter.1.…", "Filter.2.…") in the
// order of their indices.
func (f *Form) Structs(name string) []*Form {
	n := f.at(name)
	var out []*Form
	for _, i := range n.indices() {
		key := strconv.Itoa(i)
		if c := n.children[key]; len(c.children) > 0 {
			out = append(out, &Form{prefix: f.prefix + name + "." + key + ".", node: c})
		}
	}
	return out
}

// Name is the full name of a member of this form, for messages.
func (f *Form) Name(member string) string { return f.prefix + member }

func (n *node) indices() []int {
	if n == nil {
		return nil
	}
	var out []int
	for key := range n.children {
		i, err := strconv.Atoi(key)
		if err == nil && i >= 1 && i <= maxIndex && strconv.Itoa(i) == key {
			out = append(out, i)
		}
	}
	slices.Sort(out)
	return out
}

// Unread lists, in order, the parameters that were given and never asked for.
func (f *Form) Unread() []string {
	var out []string
	f.node.each(f.prefix, func(name string, n *node) {
		if !n.read {
			out = append(out, name)
		}
	})
	slices.Sort(out)
	return out
}

// Values are all parameters by their full names.
func (f *Form) Values() map[string]string {
	out := map[string]string{}
	f.node.each(f.prefix, func(name string, n *node) { out[name] = n.value })
	return out
}

// Digest is a SHA-256 in hexadecimal over all parameters but the named ones:
// equal for equal requests, whatever the order of their parameters.
func (f *Form) Digest(except ...string) string {
	var lines []string
	f.node.each(f.prefix, func(name string, n *node) {
		if !slices.Contains(except, name) {
			lines = append(lines, url.QueryEscape(name)+"="+url.QueryEscape(n.value))
		}
	})
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "&")))
	return hex.EncodeToString(sum[:])
}

func (n *node) each(prefix string, visit func(name string, n *node)) {
	for key, c := range n.children {
		if c.set {
			visit(prefix+key, c)
		}
		c.each(prefix+key+".", visit)
	}
}
