package aws_test

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
)

const (
	accept      = "AcceptVpcEndpointConnections"
	reject      = "RejectVpcEndpointConnections"
	permissions = "DescribeVpcEndpointServicePermissions"
	modify      = "ModifyVpcEndpointServicePermissions"
	four        = "vpce-0d363d9ea82658be4"
)

func endpointsOf(form url.Values) []string { return valuesOf(form, "VpcEndpointId") }

func valuesOf(form url.Values, key string) []string {
	var out []string
	for i := 1; form.Has(key + "." + strconv.Itoa(i)); i++ {
		out = append(out, form.Get(key+"."+strconv.Itoa(i)))
	}
	return out
}

// unsuccessful is the answer that did everything but endpoint two.
func unsuccessful(action, code string) reply {
	return answer(action, fmt.Sprintf(`<unsuccessful><item><error><code>%s</code><message>words of AWS</message></error><resourceId>%s</resourceId></item></unsuccessful>`, code, two))
}

func codes(failed map[string]error) map[string]postern.Code {
	out := map[string]postern.Code{}
	for id, err := range failed {
		out[id] = postern.CodeOf(err)
	}
	return out
}

func TestAcceptSendsOnlyWhatWaits(t *testing.T) {
	cloud, w := newWire(t, map[string][]reply{
		describe: {listing("", one+" pendingAcceptance", two+" Available", three+" Rejected")},
		accept:   {answer(accept, "<unsuccessful/>")},
	})
	failed, err := cloud.Accept(t.Context(), service, []string{three, two, one, one, four, "vpce-zz"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]postern.Code{three: postern.CodeConflict, four: postern.CodeNotFound, "vpce-zz": postern.CodeInvalid}
	if d := cmp.Diff(want, codes(failed)); d != "" {
		t.Error(d)
	}
	calls := w.sent(accept)
	if len(calls) != 1 || calls[0].Get("ServiceId") != service.ID || !slices.Equal(endpointsOf(calls[0]), []string{one}) {
		t.Errorf("sent %v", calls)
	}
}

func TestAcceptOfNothingSendsNothing(t *testing.T) {
	cloud, w := newWire(t, map[string][]reply{describe: {listing("", one+" pending")}})
	if failed, err := cloud.Accept(t.Context(), service, []string{one}); err != nil || len(failed) != 0 {
		t.Errorf("got %v, %v", failed, err)
	}
	if failed, err := cloud.Accept(t.Context(), service, nil); err != nil || len(failed) != 0 || len(w.sent(describe)) != 1 {
		t.Errorf("got %v, %v", failed, err)
	}
}

// AWS answers HTTP 200 and lists what it did not do.
func TestPartialFailure(t *testing.T) {
	waiting := listing("", one+" pendingAcceptance", two+" pendingAcceptance")
	t.Run("stays", func(t *testing.T) {
		cloud, _ := newWire(t, map[string][]reply{describe: {waiting}, accept: {unsuccessful(accept, "InvalidState")}})
		failed, err := cloud.Accept(t.Context(), service, []string{one, two})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(map[string]postern.Code{two: postern.CodeConflict}, codes(failed)); d != "" {
			t.Error(d)
		}
		if e := failed[two].Error(); !strings.Contains(e, "InvalidState") || !strings.Contains(e, "words of AWS") {
			t.Errorf("the error lacks AWS's words: %s", e)
		}
	})
	t.Run("somebody else did it meanwhile", func(t *testing.T) {
		cloud, _ := newWire(t, map[string][]reply{
			describe: {waiting, listing("", two+" available")}, accept: {unsuccessful(accept, "InvalidState")},
		})
		if failed, err := cloud.Accept(t.Context(), service, []string{one, two}); err != nil || len(failed) != 0 {
			t.Errorf("got %v, %v", failed, err)
		}
	})
	t.Run("throttled item", func(t *testing.T) {
		cloud, _ := newWire(t, map[string][]reply{describe: {waiting}, reject: {unsuccessful(reject, "RequestLimitExceeded")}})
		failed, err := cloud.Reject(t.Context(), service, []string{one, two})
		if d := cmp.Diff(map[string]postern.Code{two: postern.CodeThrottled}, codes(failed)); d != "" || err != nil {
			t.Error(d, err)
		}
	})
	t.Run("gone meanwhile is rejected too", func(t *testing.T) {
		cloud, _ := newWire(t, map[string][]reply{
			describe: {waiting, listing("")}, reject: {unsuccessful(reject, "InvalidVpcEndpoint.NotFound")},
		})
		if failed, err := cloud.Reject(t.Context(), service, []string{one, two}); err != nil || len(failed) != 0 {
			t.Errorf("got %v, %v", failed, err)
		}
	})
}

func TestRejectSendsOnlyWhatIsOpen(t *testing.T) {
	cloud, w := newWire(t, map[string][]reply{
		describe: {listing("", one+" available", two+" rejected", three+" Deleting")},
		reject:   {answer(reject, "<unsuccessful/>")},
	})
	failed, err := cloud.Reject(t.Context(), service, []string{one, two, three, four})
	if err != nil || len(failed) != 0 {
		t.Errorf("got %v, %v", failed, err)
	}
	if calls := w.sent(reject); len(calls) != 1 || !slices.Equal(endpointsOf(calls[0]), []string{one}) {
		t.Errorf("sent %v", calls)
	}
}

func TestDecisionsAreBatched(t *testing.T) {
	var ids, rows []string
	for i := range 60 {
		id := fmt.Sprintf("vpce-%017x", i)
		ids, rows = append(ids, id), append(rows, id+" pendingAcceptance")
	}
	ok := answer(accept, "<unsuccessful/>")
	t.Run("all", func(t *testing.T) {
		cloud, w := newWire(t, map[string][]reply{describe: {listing("", rows...)}, accept: {ok}})
		if failed, err := cloud.Accept(t.Context(), service, ids); err != nil || len(failed) != 0 {
			t.Fatalf("got %v, %v", failed, err)
		}
		var sent []string
		for _, c := range w.sent(accept) {
			if n := len(endpointsOf(c)); n > 25 {
				t.Errorf("a batch of %d", n)
			}
			sent = append(sent, endpointsOf(c)...)
		}
		if d := cmp.Diff(ids, sent); d != "" {
			t.Error(d)
		}
	})
	t.Run("stops at the first that fails", func(t *testing.T) {
		cloud, w := newWire(t, map[string][]reply{describe: {listing("", rows...)}, accept: {ok, refusal(503, "RequestLimitExceeded")}})
		if _, err := cloud.Accept(t.Context(), service, ids); postern.CodeOf(err) != postern.CodeThrottled {
			t.Errorf("got %v", err)
		}
		if n := len(w.sent(accept)); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}

func principals(arns ...string) reply {
	var b strings.Builder
	b.WriteString("<allowedPrincipals>")
	for _, a := range arns {
		fmt.Fprintf(&b, "<item><principalType>Account</principalType><principal>%s</principal><serviceId>%s</serviceId></item>", a, service.ID)
	}
	b.WriteString("</allowedPrincipals>")
	return answer(permissions, b.String())
}

const (
	oneRoot   = "arn:aws:iam::111111111111:root"
	twoRoot   = "arn:aws:iam::222222222222:root"
	threeRoot = "arn:aws:iam::333333333333:root"
)

func TestPrincipals(t *testing.T) {
	cloud, _ := newWire(t, map[string][]reply{permissions: {principals(twoRoot, oneRoot)}})
	got, err := cloud.Principals(t.Context(), service)
	if d := cmp.Diff([]string{oneRoot, twoRoot}, got); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestChangePrincipals(t *testing.T) {
	done := answer(modify, "<return>true</return>")
	for _, c := range []struct {
		name        string
		add, remove []string
		want        []string // what is sent: +ARN, -ARN
	}{
		{"nothing to do", []string{oneRoot}, []string{threeRoot}, nil},
		{"adds what is missing", []string{oneRoot, threeRoot, threeRoot}, nil, []string{"+" + threeRoot}},
		{"removes what is there, first", []string{threeRoot}, []string{twoRoot}, []string{"-" + twoRoot, "+" + threeRoot}},
		{"closes a service that is open to all", nil, []string{"*"}, []string{"-*"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cloud, w := newWire(t, map[string][]reply{permissions: {principals(oneRoot, twoRoot, "*")}, modify: {done}})
			if err := cloud.ChangePrincipals(t.Context(), service, c.add, c.remove); err != nil {
				t.Fatal(err)
			}
			var sent []string
			for _, form := range w.sent(modify) {
				for _, p := range valuesOf(form, "RemoveAllowedPrincipals") {
					sent = append(sent, "-"+p)
				}
				for _, p := range valuesOf(form, "AddAllowedPrincipals") {
					sent = append(sent, "+"+p)
				}
			}
			if d := cmp.Diff(c.want, sent); d != "" {
				t.Error(d)
			}
		})
	}
	for _, bad := range []struct{ add, remove []string }{
		{[]string{"*"}, nil},
		{[]string{"111111111111"}, nil},
		{[]string{"arn:aws:iam::111111111111:role/path/name"}, nil},
		{[]string{oneRoot}, []string{oneRoot}},
	} {
		cloud, w := newWire(t, nil)
		if err := cloud.ChangePrincipals(t.Context(), service, bad.add, bad.remove); postern.CodeOf(err) != postern.CodeInvalid || len(w.calls) != 0 {
			t.Errorf("%v: got %v after %d calls", bad, err, len(w.calls))
		}
	}
}
