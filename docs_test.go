package postern_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
)

var firstCell = regexp.MustCompile("(?m)^\\| `([A-Za-z_]+)` \\|(.*)\\|$")

// documented lists the first column of a document's tables, and fails for a
// row with an empty cell.
func documented(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range firstCell.FindAllStringSubmatch(string(b), -1) {
		names = append(names, m[1])
		for cell := range strings.SplitSeq(m[2], "|") {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("%s: the row of %s has an empty cell", file, m[1])
			}
		}
	}
	return names
}

func TestConditionsAreDocumented(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(slices.Values(texts(postern.Reasons()))), slices.Sorted(slices.Values(documented(t, "docs/conditions.md")))); diff != "" {
		t.Errorf("docs/conditions.md and postern.Reasons() differ (-code +document):\n%s", diff)
	}
	b, err := os.ReadFile("docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []postern.ConditionType{
		postern.AccountProven, postern.Approved, postern.Connected, postern.Ready,
		postern.HostnameProven, postern.ServiceAuthorized, postern.ServiceSuitable, postern.Verified,
		postern.DNSPublished, postern.PrivateTraffic, postern.PublicClients, postern.NodesAcknowledged,
		postern.RequiredAppPrivate, postern.SingleSegment,
	} {
		if !strings.Contains(string(b), "\n## "+string(c)+"\n") {
			t.Errorf("docs/conditions.md has no section %s", c)
		}
	}
}

func TestDenialsAreDocumented(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(slices.Values(texts(postern.Denials()))), slices.Sorted(slices.Values(documented(t, "docs/denials.md")))); diff != "" {
		t.Errorf("docs/denials.md and postern.Denials() differ (-code +document):\n%s", diff)
	}
}

func TestRequestReasonsAreDocumented(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(slices.Values(texts(postern.RequestReasons()))), slices.Sorted(slices.Values(documented(t, "docs/outbound.md")))); diff != "" {
		t.Errorf("docs/outbound.md and postern.RequestReasons() differ (-code +document):\n%s", diff)
	}
}
