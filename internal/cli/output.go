package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/postern-net/postern/client"
)

// print writes a result: what the API answered as JSON, or the text.
func (a *app) print(v any, asText func() string) error {
	if a.settings.output != asJSON {
		return write(a.Out, asText())
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	return write(a.Out, string(b)+"\n")
}

// done tells what was done where the API answers nothing.
func (a *app) done(format string, args ...any) error {
	if a.settings.output == asJSON {
		return nil
	}
	return write(a.Out, clean(fmt.Sprintf(format, args...))+"\n")
}

// note tells the one who waits; it is no part of the result.
func (a *app) note(format string, args ...any) error {
	return write(a.Err, clean(fmt.Sprintf(format, args...))+"\n")
}

func write(w io.Writer, s string) error {
	if _, err := io.WriteString(w, s); err != nil {
		return fmt.Errorf("write the output: %s", plain(err))
	}
	return nil
}

// printList writes a list as the API does, or as a table; an empty one says so
// on standard error, so that a script reads nothing.
func printList[T any](a *app, items []T, none string, head []string, row func(T) []string) error {
	if a.settings.output != asJSON && len(items) == 0 {
		return a.note("%s", none)
	}
	return a.print(client.Page[T]{Items: items}, func() string {
		t := newTable(head...)
		for _, item := range items {
			t.row(row(item)...)
		}
		return t.text()
	})
}

// table is rows under a head, in aligned columns.
type table struct{ rows [][]string }

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) text() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, r := range t.rows {
		cells := make([]string, len(r))
		for i, c := range r {
			if cells[i] = clean(c); c == "" {
				cells[i] = "-"
			}
		}
		_, _ = io.WriteString(w, strings.Join(cells, "\t")+"\n") // a buffer takes everything
	}
	_ = w.Flush()
	return b.String()
}

// block is keys with one or more values each; keys without one are left out.
type block struct{ lines [][2]string }

func (b *block) add(key string, values ...string) {
	label := key + ":"
	for _, v := range values {
		if v != "" {
			b.lines = append(b.lines, [2]string{label, clean(v)})
			label = ""
		}
	}
}

func (b *block) text() string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	for _, l := range b.lines {
		_, _ = io.WriteString(w, l[0]+"\t"+l[1]+"\n") // a buffer takes everything
	}
	_ = w.Flush()
	return out.String()
}

// clean keeps texts of others from moving the cursor.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// at is a time for people: UTC, to the second.
func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func comma(values []string) string { return strings.Join(values, ", ") }

// conditions are printed under an object: what holds, and what to do.
func conditions(cs []client.Condition) string {
	if len(cs) == 0 {
		return ""
	}
	t := newTable("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE")
	for _, c := range cs {
		t.row(c.Type, c.Status, c.Reason, at(c.Since), c.Message)
	}
	return "\n" + t.text()
}
