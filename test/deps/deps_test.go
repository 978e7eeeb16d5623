package deps_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern/test/deps"
)

func TestTheProjectKeepsItsRules(t *testing.T) {
	pkgs, err := deps.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	if pkgs[deps.Module] == nil || pkgs[deps.Module+"/test/deps"] == nil {
		t.Fatalf("read %d packages, but not the root and this one", len(pkgs))
	}
	for _, fault := range deps.Check(pkgs, deps.Project()) {
		t.Error(fault)
	}
}

func TestEveryRuleHasAReason(t *testing.T) {
	r := deps.Project()
	uses := slices.Clone(r.Tests)
	var rooms []string
	for _, room := range r.Rooms {
		rooms = append(rooms, room.Path)
		uses = append(uses, room.Uses...)
		if room.Job == "" {
			t.Errorf("room %s: no job", room.Path)
		}
	}
	for _, u := range uses {
		if u.Why == "" {
			t.Errorf("use of %s: no reason", u.Path)
		}
	}
	for _, f := range r.Fences {
		if f.Why == "" {
			t.Errorf("fence around %v: no reason", f.From)
		}
	}
	for _, res := range r.Reserved {
		if res.Why == "" {
			t.Errorf("reservation of %s: no reason", res.Path)
		}
	}
	slices.Sort(rooms)
	if len(slices.Compact(slices.Clone(rooms))) != len(rooms) {
		t.Errorf("a room has two rows: %v", rooms)
	}
}

// The checker itself, on trees made up to break one rule each.
func TestCheck(t *testing.T) {
	const m = deps.Module
	rules := deps.Rules{
		Rooms: []deps.Room{
			{Path: m, Job: "domain"},
			{Path: m + "/a", Job: "a", Uses: []deps.Use{{Path: m, Why: "words"}, {Path: m + "/b", Why: "work"}, {Path: "lib.example/x", Why: "bytes"}}},
			{Path: m + "/b", Job: "b", Uses: []deps.Use{{Path: m, Why: "words"}, {Path: m + "/c", Why: "more"}}},
			{Path: m + "/c", Job: "c"},
		},
		Tests:    []deps.Use{{Path: "test.example/y", Why: "tests"}},
		Fences:   []deps.Fence{{From: []string{m}, Never: []string{"net", "net/http"}, Why: "no sockets"}},
		Reserved: []deps.Reserved{{Path: "database/sql", For: []string{m + "/c"}, Why: "one store"}},
	}
	tree := func(change func(map[string]*deps.Package)) map[string]*deps.Package {
		pkgs := map[string]*deps.Package{}
		for p, imports := range map[string][]string{
			m:               {"fmt", "net/netip"},
			m + "/a":        {m, m + "/b", m + "/a/inner", "lib.example/x/deep"},
			m + "/a/inner":  {m},
			m + "/b":        {m, m + "/c", "net/http"},
			m + "/c":        {"os"},
			m + "/c/within": {m + "/c"},
		} {
			pkgs[p] = &deps.Package{Path: p, Imports: imports, Comments: []string{"doc.go"}}
		}
		if change != nil {
			change(pkgs)
		}
		return pkgs
	}
	for _, tt := range []struct {
		name   string
		change func(map[string]*deps.Package)
		fences []deps.Fence
		want   []string
	}{
		{name: "a good tree"},
		{
			name:   "an import that is not allowed",
			change: func(p map[string]*deps.Package) { p[m+"/c"].Imports = []string{m + "/a"} },
			want:   []string{m + "/c imports " + m + "/a, which its row does not allow"},
		},
		{
			name:   "a library with a name that only begins alike",
			change: func(p map[string]*deps.Package) { p[m+"/a"].Imports = append(p[m+"/a"].Imports, "lib.example/xyz") },
			want:   []string{m + "/a imports lib.example/xyz, which its row does not allow"},
		},
		{
			name: "tests may use test libraries and any room",
			change: func(p map[string]*deps.Package) {
				p[m+"/c"].TestImports = []string{"test.example/y", m + "/a", "testing"}
			},
		},
		{
			name:   "a test library in the product",
			change: func(p map[string]*deps.Package) { p[m+"/c"].Imports = []string{"test.example/y"} },
			want:   []string{m + "/c imports test.example/y, which its row does not allow"},
		},
		{
			name:   "an unknown library in tests",
			change: func(p map[string]*deps.Package) { p[m+"/c"].TestImports = []string{"other.example/z"} },
			want:   []string{"the tests of " + m + "/c import other.example/z, which neither its row nor the list for tests allows"},
		},
		{
			name:   "no package comment",
			change: func(p map[string]*deps.Package) { p[m+"/c"].Comments = nil },
			want:   []string{m + "/c: 0 package comments []; write one that tells the package's job and its limits"},
		},
		{
			name:   "two package comments",
			change: func(p map[string]*deps.Package) { p[m+"/c"].Comments = []string{"a.go", "b.go"} },
			want:   []string{m + "/c: 2 package comments [a.go b.go]; write one that tells the package's job and its limits"},
		},
		{
			name: "a package without a row",
			change: func(p map[string]*deps.Package) {
				p[m+"/d"] = &deps.Package{Path: m + "/d", Comments: []string{"d.go"}}
			},
			want: []string{m + "/d: no row for it in test/deps/table.go; add one, with a reason for each import"},
		},
		{
			name:   "a row without a package",
			change: func(p map[string]*deps.Package) { delete(p, m+"/c"); delete(p, m+"/c/within") },
			want:   []string{"rules: the room " + m + "/c is empty; remove its row"},
		},
		{
			name:   "a permission that nothing needs",
			change: func(p map[string]*deps.Package) { p[m+"/a"].Imports = []string{m, m + "/b"} },
			want:   []string{"rules: the room " + m + "/a may import lib.example/x and does not; remove the line"},
		},
		{
			name: "a permission that only a test or an inner package needs",
			change: func(p map[string]*deps.Package) {
				p[m+"/a"].Imports = []string{m + "/b"}
				p[m+"/a/inner"].TestImports = []string{"lib.example/x"}
			},
		},
		{
			name:   "a reserved package in its room",
			change: func(p map[string]*deps.Package) { p[m+"/c/within"].Imports = []string{"database/sql/driver"} },
		},
		{
			name:   "a reserved package elsewhere",
			change: func(p map[string]*deps.Package) { p[m+"/b"].Imports = append(p[m+"/b"].Imports, "database/sql") },
			want:   []string{m + "/b imports database/sql, which is reserved for " + m + "/c (one store)"},
		},
		{
			name:   "the root and a forbidden part of the standard library",
			change: func(p map[string]*deps.Package) { p[m].Imports = []string{"net/http"} },
			want:   []string{m + " → net/http must never reach net/http (no sockets)"},
		},
		{
			name:   "a fence crossed through another package",
			fences: []deps.Fence{{From: []string{m + "/a"}, Never: []string{m + "/c"}, Why: "apart"}},
			want:   []string{m + "/a → " + m + "/b → " + m + "/c must never reach " + m + "/c (apart)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rules
			r.Fences = append(slices.Clone(r.Fences), tt.fences...)
			got := deps.Check(tree(tt.change), r)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("faults (-want +got):\n%s", d)
			}
		})
	}
}

func TestReadLeavesOutWhatTheGoCommandIgnores(t *testing.T) {
	pkgs, err := deps.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	for p := range pkgs {
		if strings.Contains(p, "/testdata") || strings.Contains(p, "/.") {
			t.Errorf("%s was read", p)
		}
	}
	self := pkgs[deps.Module+"/test/deps"]
	if !slices.Contains(self.Imports, "go/parser") || !slices.Contains(self.TestImports, "github.com/google/go-cmp/cmp") || !slices.Equal(self.Comments, []string{"deps.go"}) {
		t.Errorf("read of this package: %+v", self)
	}
}
