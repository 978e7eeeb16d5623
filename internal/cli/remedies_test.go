package cli_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/postern-net/postern/internal/cli"
)

// commandLine is a command of the program in a text for people.
var commandLine = regexp.MustCompile("[`(]postern((?: [a-z][a-z-]*)+)")

// What a text tells people to do can be done: each command that one names is
// there.
func TestTextsNameCommandsThatExist(t *testing.T) {
	root := cli.New(cli.IO{Getenv: func(string) string { return "" }}, cli.Build{},
		&cobra.Command{Use: "serve"}, &cobra.Command{Use: "sandbox"}, &cobra.Command{Use: "localaws"})
	seen := 0
	check := func(at, text string) {
		for _, m := range commandLine.FindAllStringSubmatch(text, -1) {
			seen++
			c := root
			for word := range strings.FieldsSeq(m[1]) {
				if !c.HasSubCommands() {
					break // an argument
				}
				next := slices.IndexFunc(c.Commands(), func(sub *cobra.Command) bool { return sub.Name() == word || sub.HasAlias(word) })
				if next < 0 {
					t.Errorf("%s: there is no command postern%s", at, m[1])
					break
				}
				c = c.Commands()[next]
			}
		}
	}
	const top = "../.."
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != top || d.Name() == "testdata" || d.Name() == "bench"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			b, err := os.ReadFile(path) //nolint:gosec // of this repository
			check(path, string(b))
			return err
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Error(err)
				}
				check(files.Position(l.Pos()).String(), text)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Errorf("only %d commands were found in texts", seen)
	}
}
