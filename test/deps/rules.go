package deps

import "strings"

// Rules are what [Check] holds a tree to.
type Rules struct {
	Rooms    []Room
	Tests    []Use // libraries that every test may use
	Fences   []Fence
	Reserved []Reserved
}

// Room is a package with everything below it that has no row of its own. It
// may import the standard library, itself and what Uses lists.
type Room struct {
	Path string // import path
	Job  string // one sentence
	Uses []Use
}

// Use permits one import: a package of the project exactly, a library with
// everything below it.
type Use struct {
	Path string
	Why  string
}

// Fence forbids packages to reach others by any way through the project's own
// packages. The module's root and packages of the standard library stand for
// themselves only, every other path for all below it.
type Fence struct {
	From, Never []string
	Why         string
}

// Reserved keeps a library, or a part of the standard library, to some rooms,
// whatever the rows of others come to say.
type Reserved struct {
	Path string
	For  []string
	Why  string
}

// room finds the row of a package: the one with the longest path. The root's
// row is for the root alone.
func (r Rules) room(p string) (Room, bool) {
	var best Room
	for _, room := range r.Rooms {
		if behind(p, room.Path) && len(room.Path) > len(best.Path) {
			best = room
		}
	}
	return best, best.Path != ""
}

// own makes import paths of the project's packages; "" is its root.
func own(rel string) string { return strings.TrimSuffix(Module+"/"+rel, "/") }

func owns(rel ...string) []string {
	out := make([]string, len(rel))
	for i, r := range rel {
		out[i] = own(r)
	}
	return out
}

// The reasons that many rows share.
var (
	domain = Use{own(""), "the domain's words, rules and errors"}
	wire   = Use{own("client"), "the wire types of the API"}
	strict = Use{own("internal/strictyaml"), "files that people write, read strictly"}
	yaml   = Use{"github.com/goccy/go-yaml", "YAML with positions"}
	meter  = Use{"github.com/prometheus/client_golang", "metrics, on a registry that the caller gives"}
	sdk    = Use{"github.com/aws/aws-sdk-go-v2", "AWS's own client"}
	smithy = Use{"github.com/aws/smithy-go", "the error types of AWS's own client"}
)
