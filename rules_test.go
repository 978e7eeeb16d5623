package postern_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
)

func TestSetCondition(t *testing.T) {
	t1, t2 := time.Unix(1, 0), time.Unix(2, 0)
	ready := postern.Condition{Type: postern.Ready, Status: postern.False, Reason: postern.ReasonNotReady, Since: t1}
	connected := postern.Condition{Type: postern.Connected, Status: postern.True, Reason: postern.ReasonAvailable, Since: t1}

	cs := postern.SetCondition(postern.SetCondition(nil, ready), connected)
	if diff := cmp.Diff([]postern.Condition{connected, ready}, cs); diff != "" {
		t.Errorf("not ordered by type:\n%s", diff)
	}
	same := ready
	same.Reason, same.Message, same.Since = postern.ReasonNoTenant, "other words", t2
	before := slices.Clone(cs)
	after := postern.SetCondition(cs, same)
	if diff := cmp.Diff(before, cs); diff != "" {
		t.Errorf("its argument was changed:\n%s", diff)
	}
	if got := postern.FindCondition(after, postern.Ready); !got.Since.Equal(t1) || got.Reason != postern.ReasonNoTenant {
		t.Errorf("the same status: %+v; Since must stay, the reason must change", got)
	}
	same.Status = postern.True
	if got := postern.FindCondition(postern.SetCondition(after, same), postern.Ready); !got.Since.Equal(t2) {
		t.Errorf("another status: %+v; Since must be new", got)
	}
	if got := postern.FindCondition(nil, postern.Ready); got != (postern.Condition{}) {
		t.Errorf("found %+v in nothing", got)
	}
}

func TestIdentitySees(t *testing.T) {
	for _, c := range []struct {
		role              postern.Role
		own, other, blank bool // sees its own organization's, another's, nobody's
	}{
		{postern.RoleAdmin, true, true, true},
		{postern.RoleOperator, true, true, true},
		{postern.RoleOrgAdmin, true, false, false},
		{postern.RoleOrgView, true, false, false},
		{postern.RoleNode, false, false, false},
		{"", false, false, false},
		{"root", false, false, false},
	} {
		id := postern.Identity{Role: c.role, Organization: "example-corp"}
		if got := id.Sees("example-corp"); got != c.own {
			t.Errorf("%s sees its own: %v", c.role, got)
		}
		if got := id.Sees("globex"); got != c.other {
			t.Errorf("%s sees another's: %v", c.role, got)
		}
		id.Organization = ""
		if got := id.Sees(""); got != c.blank {
			t.Errorf("%s of no organization sees nobody's: %v", c.role, got)
		}
	}
}

func TestTokenValidate(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		token postern.Token
		says  string // "": good
	}{
		{postern.Token{Name: "ci", Role: postern.RoleAdmin}, ""},
		{postern.Token{Name: "ci", Role: postern.RoleOrgView, Organization: "globex", ExpiresAt: now.Add(1)}, ""},
		{postern.Token{Role: postern.RoleAdmin}, "spec.name: not between 1 and 100 bytes"},
		{postern.Token{Name: strings.Repeat("a", 101), Role: postern.RoleAdmin}, "spec.name: not between 1 and 100 bytes"},
		{postern.Token{Name: "a", Role: "root"}, "no such role"},
		{postern.Token{Name: "a"}, "no such role"},
		{postern.Token{Name: "a", Role: postern.RoleOrgAdmin}, "spec.organization: not usable"},
		{postern.Token{Name: "a", Role: postern.RoleAdmin, Organization: "globex"}, "only with an organization's role"},
		{postern.Token{Name: "a", Role: postern.RoleAdmin, ExpiresAt: now}, "in the past"},
	} {
		err := c.token.Validate(now)
		if (c.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v; want %q", c.token, err, c.says)
		}
	}
}

func TestClaimValidate(t *testing.T) {
	const id = "vpce-0d363d9ea82658bec"
	many := make([]string, postern.MaxClaimEndpoints+1)
	for i := range many {
		many[i] = fmt.Sprintf("vpce-%017x", i)
	}
	for _, c := range []struct {
		claim postern.Claim
		says  []string // none: good
	}{
		{postern.Claim{Organization: "o", Endpoints: []string{id}}, nil},
		{postern.Claim{Organization: "o", Endpoints: many[:postern.MaxClaimEndpoints], Tenants: []string{"a", "b"}}, nil},
		{postern.Claim{Organization: "o"}, []string{"not between 1 and 50"}},
		{postern.Claim{Organization: "o", Endpoints: many}, []string{"not between 1 and 50"}},
		{postern.Claim{Organization: "o", Endpoints: []string{id, id}}, []string{"vpc_endpoint_ids[1]: duplicate endpoint"}},
		{postern.Claim{Organization: "o", Endpoints: []string{id}, Tenants: []string{"a", "a"}}, []string{"tenants[1]: duplicate tenant"}},
		{
			postern.Claim{Organization: "O", Endpoints: []string{"vpce-1", id}, Tenants: []string{"*"}},
			[]string{"organization: not usable", "vpc_endpoint_ids[0]: not a VPC endpoint ID", "tenants[0]: not usable"},
		},
	} {
		err := c.claim.Validate()
		if len(c.says) == 0 {
			if err != nil {
				t.Errorf("%+v: %v", c.claim, err)
			}
			continue
		}
		for _, says := range c.says {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%+v: %v; want %q", c.claim, err, says)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	var none postern.Errors
	none.Add(nil)
	if none.Err() != nil {
		t.Error("no problem is an error")
	}
	one := postern.Invalid("spec.x", "7", "too many", "use fewer")
	if got, want := one.Error(), `spec.x: too many (got "7"); use fewer`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	es := postern.Errors{one, postern.Errorf(postern.CodeConflict, "is %s", "taken")}
	if got := strings.Count(es.Error(), "\n"); got != 1 {
		t.Errorf("%q is not a line a problem", es)
	}
	wrapped := fmt.Errorf("claim: %w", es.Err())
	if got := postern.CodeOf(wrapped); got != postern.CodeInvalid {
		t.Errorf("the code of a list is that of its first problem, got %s", got)
	}
	if got := postern.CodeOf(errors.New("disk full")); got != postern.CodeInternal {
		t.Errorf("what is not of the domain is internal, got %s", got)
	}
	absent, foreign := postern.NotFound("tenant", "a"), postern.NotFound("tenant", "a")
	if absent.Error() != foreign.Error() {
		t.Error("absent and foreign differ")
	}
}

func TestChallengeBindsEverything(t *testing.T) {
	c := postern.Challenge{Nonce: "n", Organization: "o"}
	if got := c.Binding("p"); got != "p;o;n" {
		t.Error(got)
	}
}

func TestListsAreClosedAndUnique(t *testing.T) {
	unique := func(what string, list []string) {
		t.Helper()
		if len(slices.Compact(slices.Sorted(slices.Values(list)))) != len(list) {
			t.Errorf("%s has duplicates: %v", what, list)
		}
	}
	unique("Reasons", texts(postern.Reasons()))
	unique("RequestReasons", texts(postern.RequestReasons()))
	unique("Denials", texts(postern.Denials()))
	unique("Roles", texts(postern.Roles()))
	unique("EndpointStates", texts(postern.EndpointStates()))
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
