// Package deps keeps the project's rooms apart: which package may import what,
// each permission with its reason, and which packages must never reach which,
// not even through others.
//
// The rules are the table in table.go and stand in words in
// docs/architecture.md. The package reads source files only, so that it judges
// a tree that does not compile as well.
package deps

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the project's root.
const Module = "github.com/postern-net/postern"

// Package is what the rules look at in one folder of Go files.
type Package struct {
	Path        string // import path
	Imports     []string
	TestImports []string // of its _test.go files
	Comments    []string // non-test files that carry a package comment
}

// Read finds every package of the module whose root folder is given. Folders
// that the go command ignores, and modules inside the module, are left out.
func Read(root string) (map[string]*Package, error) {
	pkgs := map[string]*Package{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (ignored(d.Name()) || isModule(name)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(name))
		if err != nil {
			return err
		}
		p := path.Join(Module, filepath.ToSlash(rel))
		if pkgs[p] == nil {
			pkgs[p] = &Package{Path: p}
		}
		return pkgs[p].add(name)
	})
	if err != nil {
		return nil, fmt.Errorf("read packages below %s: %w", root, err)
	}
	return pkgs, nil
}

func ignored(folder string) bool {
	return folder == "testdata" || folder == "vendor" || strings.HasPrefix(folder, ".") || strings.HasPrefix(folder, "_")
}

func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

// add takes one file's imports and package comment.
func (p *Package) add(name string) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	test := strings.HasSuffix(name, "_test.go")
	to := &p.Imports
	if test {
		to = &p.TestImports
	}
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if !slices.Contains(*to, imported) {
			*to = append(*to, imported)
		}
	}
	if !test && strings.TrimSpace(f.Doc.Text()) != "" {
		p.Comments = append(p.Comments, filepath.Base(name))
	}
	return nil
}

// Check returns one sentence for each breach of the rules, sorted.
func Check(pkgs map[string]*Package, r Rules) []string {
	var faults []string
	for _, p := range slices.Sorted(maps.Keys(pkgs)) {
		faults = append(faults, checkPackage(pkgs[p], r)...)
	}
	for _, room := range r.Rooms {
		faults = append(faults, checkRoom(pkgs, r, room)...)
	}
	for _, f := range r.Fences {
		faults = append(faults, checkFence(pkgs, f)...)
	}
	for _, res := range r.Reserved {
		faults = append(faults, checkReserved(pkgs, res)...)
	}
	slices.Sort(faults)
	return faults
}

// checkRoom finds what a row permits and nothing needs any more.
func checkRoom(pkgs map[string]*Package, r Rules, room Room) []string {
	var imports []string
	empty := true
	for _, p := range pkgs {
		if of, ok := r.room(p.Path); ok && of.Path == room.Path {
			empty = false
			imports = slices.Concat(imports, p.Imports, p.TestImports)
		}
	}
	if empty {
		return []string{fmt.Sprintf("rules: the room %s is empty; remove its row", room.Path)}
	}
	var faults []string
	for _, u := range room.Uses {
		if !slices.ContainsFunc(imports, func(i string) bool { return allows([]Use{u}, i) }) {
			faults = append(faults, fmt.Sprintf("rules: the room %s may import %s and does not; remove the line", room.Path, u.Path))
		}
	}
	return faults
}

func checkPackage(p *Package, r Rules) []string {
	var faults []string
	if len(p.Imports) > 0 || len(p.TestImports) == 0 {
		if n := len(p.Comments); n != 1 {
			faults = append(faults, fmt.Sprintf("%s: %d package comments %v; write one that tells the package's job and its limits", p.Path, n, p.Comments))
		}
	}
	room, ok := r.room(p.Path)
	if !ok {
		return append(faults, p.Path+": no row for it in test/deps/table.go; add one, with a reason for each import")
	}
	for _, i := range p.Imports {
		if !standard(i) && !within(i, room.Path) && !allows(room.Uses, i) {
			faults = append(faults, fmt.Sprintf("%s imports %s, which its row does not allow", p.Path, i))
		}
	}
	for _, i := range p.TestImports {
		// Tests may drive any room of the project: the sandbox is their world.
		if !standard(i) && !within(i, Module) && !allows(room.Uses, i) && !allows(r.Tests, i) {
			faults = append(faults, fmt.Sprintf("the tests of %s import %s, which neither its row nor the list for tests allows", p.Path, i))
		}
	}
	return faults
}

func checkReserved(pkgs map[string]*Package, res Reserved) []string {
	var faults []string
	for _, p := range pkgs {
		mayUse := slices.ContainsFunc(res.For, func(room string) bool { return behind(p.Path, room) })
		if !mayUse && slices.ContainsFunc(p.Imports, func(i string) bool { return within(i, res.Path) }) {
			faults = append(faults, fmt.Sprintf("%s imports %s, which is reserved for %s (%s)", p.Path, res.Path, strings.Join(res.For, ", "), res.Why))
		}
	}
	return faults
}

// checkFence follows the imports of every package behind the fence through the
// project's own packages, and reports the way by which one gets out.
func checkFence(pkgs map[string]*Package, f Fence) []string {
	var faults []string
	for _, from := range slices.Sorted(maps.Keys(pkgs)) {
		if !slices.ContainsFunc(f.From, func(room string) bool { return behind(from, room) }) {
			continue
		}
		if way := reach(pkgs, f.Never, []string{from}, map[string]bool{}); way != nil {
			faults = append(faults, fmt.Sprintf("%s must never reach %s (%s)", strings.Join(way, " → "), way[len(way)-1], f.Why))
		}
	}
	return faults
}

// behind is within, except that the root stands for itself only.
func behind(p, room string) bool {
	return p == room || room != Module && within(p, room)
}

// reach returns the first way from the last package of way to one of never.
func reach(pkgs map[string]*Package, never, way []string, seen map[string]bool) []string {
	at := way[len(way)-1]
	if seen[at] || pkgs[at] == nil {
		return nil
	}
	seen[at] = true
	for _, i := range pkgs[at].Imports {
		next := append(slices.Clone(way), i)
		if slices.ContainsFunc(never, func(n string) bool { return i == n || !standard(n) && behind(i, n) }) {
			return next
		}
		if found := reach(pkgs, never, next, seen); found != nil {
			return found
		}
	}
	return nil
}

// standard tells the standard library's packages: their first element has no
// dot.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

func within(p, tree string) bool {
	return p == tree || strings.HasPrefix(p, tree+"/")
}

// allows compares the project's own packages exactly, and libraries with
// everything below them.
func allows(uses []Use, p string) bool {
	return slices.ContainsFunc(uses, func(u Use) bool {
		return p == u.Path || !within(u.Path, Module) && within(p, u.Path)
	})
}
