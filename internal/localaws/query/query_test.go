package query_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern/internal/localaws/query"
)

func parse(t *testing.T, body string) *query.Form {
	t.Helper()
	f, err := query.Parse([]byte(body))
	if err != nil {
		t.Fatalf("Parse(%q): %v", body, err)
	}
	return f
}

func TestListsAreOrderedByNumber(t *testing.T) {
	f := parse(t, "SubnetId.10=c&SubnetId.2=b&SubnetId.1=a&SubnetId.x=no&SubnetId.01=no&SubnetId.0=no")
	if diff := cmp.Diff([]string{"a", "b", "c"}, f.List("SubnetId")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"SubnetId.0", "SubnetId.01", "SubnetId.x"}, f.Unread()); diff != "" {
		t.Error(diff)
	}
}

func TestStructs(t *testing.T) {
	f := parse(t, "Filter.2.Name=b&Filter.2.Value.1=3&Filter.1.Name=a&Filter.1.Value.1=1&Filter.1.Value.2=2&TagSpecification.1.Tag.1.Key=k")
	var got []string
	for _, s := range f.Structs("Filter") {
		got = append(got, s.Name("Name")+"="+s.String("Name")+":"+strings.Join(s.List("Value"), ","))
	}
	if diff := cmp.Diff([]string{"Filter.1.Name=a:1,2", "Filter.2.Name=b:3"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"TagSpecification.1.Tag.1.Key"}, f.Unread()); diff != "" {
		t.Error(diff)
	}
}

func TestScalars(t *testing.T) {
	f := parse(t, "DryRun=true&Off=False&MaxResults=7&Bad=maybe&Options.Type=ipv4")
	if v, given, err := f.Bool("DryRun"); !v || !given || err != nil {
		t.Error(v, given, err)
	}
	if v, given, err := f.Bool("Off"); v || !given || err != nil {
		t.Error(v, given, err)
	}
	if _, given, err := f.Bool("Absent"); given || err != nil {
		t.Error(given, err)
	}
	if n, given, err := f.Int("MaxResults"); n != 7 || !given || err != nil {
		t.Error(n, given, err)
	}
	if f.String("Options.Type") != "ipv4" {
		t.Error("nested scalar not found")
	}
	var pe *query.ParameterError
	if _, _, err := f.Bool("Bad"); !errors.As(err, &pe) || pe.Name != "Bad" {
		t.Error(err)
	}
	if _, _, err := f.Int("Bad"); !errors.As(err, &pe) || pe.Want != "an integer" {
		t.Error(err)
	}
	if left := f.Unread(); len(left) != 0 {
		t.Error(left)
	}
}

func TestRefused(t *testing.T) {
	var many strings.Builder
	for i := range query.MaxParameters + 1 {
		fmt.Fprintf(&many, "a.%d=1&", i)
	}
	for name, body := range map[string]string{
		"twice": "A=1&A=2", "empty part": "A..B=1", "no name": "=1", "escape": "A=%zz", "semicolon": "A=1;B=2",
		"deep": strings.Repeat("a.", query.MaxDepth) + "a=1", "many": many.String(),
	} {
		if _, err := query.Parse([]byte(body)); !errors.Is(err, query.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDigest(t *testing.T) {
	a := parse(t, "A=1&B.1=2&ClientToken=x")
	b := parse(t, "ClientToken=y&B.1=2&A=1")
	c := parse(t, "ClientToken=y&B.1=3&A=1")
	if a.Digest("ClientToken") != b.Digest("ClientToken") {
		t.Error("the excluded parameter counts")
	}
	if a.Digest("ClientToken") == c.Digest("ClientToken") {
		t.Error("a different parameter does not count")
	}
	if parse(t, "A=1%26B%3D2").Digest() == parse(t, "A=1&B=2").Digest() {
		t.Error("a value that looks like a parameter is one")
	}
}

// FuzzParse: what is accepted can be written again and says the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte("Action=CreateVpcEndpoint&SubnetId.1=a&SubnetId.2=b&Filter.1.Name=x&Filter.1.Value.1=y"))
	f.Add([]byte("A.1=1&A.1.B=2&A.2147483648=3&A.-1=4"))
	f.Add([]byte("%41=%00&+=+"))
	f.Fuzz(func(t *testing.T, body []byte) {
		form, err := query.Parse(body)
		if err != nil {
			if !errors.Is(err, query.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		values, again := url.Values{}, url.Values{}
		for _, name := range form.Unread() {
			values.Set(name, "")
		}
		for name := range values {
			v, ok := form.Lookup(name)
			if !ok {
				t.Fatalf("%q is unread but not there", name)
			}
			again.Set(name, v)
		}
		if left := form.Unread(); len(left) != 0 {
			t.Fatalf("read, and still unread: %q", left)
		}
		other, err := query.Parse([]byte(again.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form.Digest() != other.Digest() {
			t.Fatalf("%q and %q differ", body, again.Encode())
		}
		tops := map[string]bool{}
		for name := range values {
			top, _, _ := strings.Cut(name, ".")
			tops[top] = true
		}
		for top := range tops {
			form.List(top)
			for _, s := range form.Structs(top) {
				s.List("Value")
			}
		}
	})
}
