package platformfile

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/strictyaml"
)

//go:embed immuta.yaml
var builtins embed.FS

// BuiltinNames lists the platforms that need no file, sorted.
func BuiltinNames() []string {
	entries, err := fs.ReadDir(builtins, ".")
	if err != nil {
		return nil // an embedded root always reads
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), path.Ext(e.Name())))
	}
	slices.Sort(names)
	return names
}

// Builtin returns a fresh copy of a built-in platform, or an error of
// [postern.CodeNotFound] that lists the names there are.
func Builtin(name string) (*postern.Platform, error) {
	if !slices.Contains(BuiltinNames(), name) {
		e := postern.NotFound("built-in platform", name)
		e.Fix = "built in: " + strings.Join(BuiltinNames(), ", ")
		return nil, e
	}
	b, err := builtins.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("read built-in platform %s: %w", name, err)
	}
	return Parse(name+".yaml", b)
}

// Load reads a platform by the name of a built-in one or, for any other text,
// by the path of a file. A file that has a built-in name is reached by a path
// with a slash, such as "./immuta".
func Load(nameOrPath string) (*postern.Platform, error) {
	if slices.Contains(BuiltinNames(), nameOrPath) {
		return Builtin(nameOrPath)
	}
	b, err := strictyaml.Read(nameOrPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &postern.Error{
			Code: postern.CodeNotFound, Value: nameOrPath, Message: "no such platform file",
			Fix: "give the path of a platform file, or a built-in name: " + strings.Join(BuiltinNames(), ", "),
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read platform file: %w", err)
	}
	return Parse(nameOrPath, b)
}
