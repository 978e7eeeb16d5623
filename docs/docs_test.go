package docs_test

import (
	"encoding"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-net/postern/internal/egress"
	"github.com/postern-net/postern/internal/ingress"
	"github.com/postern-net/postern/internal/relay"
	"github.com/postern-net/postern/internal/sandbox"
	"github.com/postern-net/postern/internal/scim"
	"github.com/postern-net/postern/internal/serve"
	"github.com/postern-net/postern/test/deps"
)

const root = ".."

var (
	inlineLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeBlock  = regexp.MustCompile("(?ms)^```.*?^```$")
	heading    = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)
	notInSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	citation   = regexp.MustCompile(`\bdocs/[a-z0-9/-]+\.(?:md|yaml)\b`)
	firstCell  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")
	chapter    = regexp.MustCompile(`(?m)^\t\{"([a-z0-9-]+)", "[^"]+", \(\*story\)\.`)
	anyName    = regexp.MustCompile(`<[^>]+>`)
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// files lists the repository's files with one of some endings.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (strings.HasPrefix(n, ".") || n == "node_modules" || n == "bin" || n == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		for _, e := range endings {
			if strings.HasSuffix(path, e) {
				out = append(out, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// slugs are the anchors of a document's headings, as GitHub makes them.
func slugs(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		out[strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	links := 0
	for _, file := range files(t, ".md") {
		for _, m := range inlineLink.FindAllStringSubmatch(codeBlock.ReplaceAllString(read(t, file), ""), -1) {
			if strings.Contains(m[1], ":") { // another site
				continue
			}
			links++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", file, m[1])
			} else if anchor != "" && !slugs(read(t, target))[anchor] {
				t.Errorf("%s: %s has no heading for #%s", file, target, anchor)
			}
		}
	}
	if links < 30 {
		t.Errorf("found only %d links", links)
	}
}

func TestWhatCodeCitesIsThere(t *testing.T) {
	cited := map[string]bool{}
	for _, file := range files(t, ".go", ".sh", ".yml", "Makefile") {
		for _, c := range citation.FindAllString(read(t, file), -1) {
			if !cited[c] {
				cited[c] = true
				if _, err := os.Stat(filepath.Join(root, c)); err != nil {
					t.Errorf("%s cites %s, which is not there", file, c)
				}
			}
		}
	}
	if !cited["docs/architecture.md"] {
		t.Error("found no citation of docs/architecture.md")
	}
}

// rows are the first cells of a document's tables; what is in angle brackets
// is the reader's to fill in.
func rows(t *testing.T, file string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, m := range firstCell.FindAllStringSubmatch(read(t, file), -1) {
		out[anyName.ReplaceAllString(m[1], "<>")] = true
	}
	return out
}

func demand(t *testing.T, file string, want []string, atLeast int) {
	t.Helper()
	if len(want) < atLeast {
		t.Errorf("found only %d names to look for in %s: %q", len(want), file, want)
	}
	have := rows(t, file)
	for _, w := range want {
		if !have[w] {
			t.Errorf("docs/%s has no row for %s", file, w)
		}
	}
}

// keys lists the paths of a structure's leaves by the names that a tag gives
// them, "[]" for entries of a list and ".<>" for those of a mapping.
func keys(tag, path string, t reflect.Type) []string {
	switch {
	case t.Kind() == reflect.Map:
		return keys(tag, path+".<>", t.Elem())
	case t.Kind() == reflect.Slice && nested(t.Elem()):
		return append(keys(tag, path+"[]", t.Elem()), path)
	case !nested(t):
		return []string{path}
	}
	var out []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get(tag), ",")
		out = append(out, keys(tag, strings.TrimPrefix(path+"."+name, "."), f.Type)...)
	}
	return out
}

func nested(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func TestServeDocumentsEveryKey(t *testing.T) {
	demand(t, "serve.md", keys("yaml", "", reflect.TypeFor[serve.Config]()), 25)
}

func TestSandboxDocumentsEveryKey(t *testing.T) {
	demand(t, "sandbox.md", keys("json", "", reflect.TypeFor[sandbox.File]()), 15)
}

func TestServeDocumentsEveryMetric(t *testing.T) {
	r := prometheus.NewRegistry()
	if _, err := ingress.New(ingress.Config{Region: "us-east-1", Engine: relay.New(relay.Config{}), Logger: slog.New(slog.DiscardHandler), Registerer: r}); err != nil {
		t.Fatal(err)
	}
	if _, err := egress.New(egress.Config{Region: "us-east-1", Engine: relay.New(relay.Config{}), Logger: slog.New(slog.DiscardHandler), Registerer: r}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	door, err := scim.New(scim.Config{Region: "us-east-1", Certificates: &scim.Files{}, AccessLog: log, Registerer: r})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Shutdown(t.Context())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	demand(t, "serve.md", names, 12)
}

// The steps are read from the source: they are nobody's API.
func TestSandboxDocumentsEveryStep(t *testing.T) {
	var steps []string
	for _, m := range chapter.FindAllStringSubmatch(read(t, "../internal/sandbox/story.go"), -1) {
		steps = append(steps, m[1])
	}
	demand(t, "sandbox.md", steps, 17)
}

func TestArchitectureNamesEveryRoom(t *testing.T) {
	var rooms []string
	for _, r := range deps.Project().Rooms {
		switch name := strings.TrimPrefix(strings.TrimPrefix(r.Path, deps.Module), "/"); {
		case name != "" && !strings.HasPrefix(name, "test/") && name != "docs":
			rooms = append(rooms, name)
		}
	}
	demand(t, "architecture.md", rooms, 15)
}

// An operator who copies both examples has a config that starts.
func TestServeExampleIsAConfig(t *testing.T) {
	dir := t.TempDir()
	for name, doc := range map[string]string{"platform.yaml": "platform-file.md", "serve.yaml": "serve.md"} {
		_, example, _ := strings.Cut(read(t, doc), "```yaml\n")
		example, _, ok := strings.Cut(example, "```")
		if !ok {
			t.Fatalf("docs/%s has no example", doc)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(example), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := serve.LoadConfig(filepath.Join(dir, "serve.yaml")); err != nil {
		t.Error(err)
	}
}
