package sandbox

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/postern-net/postern/client"
)

// hasSCIM tells whether the platform has a SCIM ingress that a step can try.
func (st *story) hasSCIM() bool {
	if st.platform.Domains.SCIM == "" {
		st.saw("the platform has no SCIM domain")
		return false
	}
	return true
}

// scimDoor is the SCIM ingress of example's home.
func (st *story) scimDoor() netip.AddrPort {
	return netip.AddrPortFrom(st.places.scim[st.home.Region], st.httpsPort)
}

// scimIngress: example is private. Its identity provider has no way in until
// somebody asks for one, and then one that is SCIM's.
func (st *story) scimIngress(ctx context.Context) error {
	if !st.hasSCIM() {
		return nil
	}
	name := st.platform.SCIMHost("example")
	if err := st.scimRefused(ctx, name); err != nil {
		return fmt.Errorf("nobody asked for it: %w", err)
	}
	if at, err := st.visitor("internet").resolve(ctx, name); err == nil {
		return fmt.Errorf("nobody asked for it, and %s is %s", name, at)
	}
	spec := client.SCIMIngressSpec{Enabled: true, SourceRanges: []string{st.ground.client.String() + "/32"}}
	if _, err := st.globex.api.SetSCIMIngress(ctx, "example", spec); !client.HasCode(err, "not_found") {
		return fmt.Errorf("another organization asks for it and gets %s, want not_found", got(err))
	}
	asked, err := st.example.api.SetSCIMIngress(ctx, "example", spec)
	if err != nil {
		return err
	}
	if asked.Status.BaseURL != "https://"+name+"/scim/v2" {
		return fmt.Errorf("the base URL is %q", asked.Status.BaseURL)
	}
	err = until(ctx, func() error {
		at, err := st.visitor("internet").resolve(ctx, name)
		if err == nil && at != st.scimDoor().Addr() {
			err = fmt.Errorf("%w: %s is %s, want %s", errFinal, name, at, st.scimDoor().Addr())
		}
		return err
	})
	if err != nil {
		return err
	}
	const userName = "bjensen@example.com"
	var made, listed scimReply
	err = until(ctx, func() (err error) {
		made, err = st.scimAsk(ctx, "POST", "/scim/v2/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"`+userName+`"}`)
		return err
	})
	if err == nil {
		listed, err = st.scimAsk(ctx, "GET", "/scim/v2/Users?filter=userName%20eq%20%22"+userName+"%22", "")
	}
	if err != nil {
		return err
	}
	if made.status != 201 || !strings.HasPrefix(made.location, fmt.Sprintf("https://%s:%d/scim/v2/Users/", name, st.httpsPort)) || listed.status != 200 || !strings.Contains(listed.body, userName) {
		return fmt.Errorf("a user is made: %+v, and listed: %+v", made, listed)
	}
	for _, r := range []scimReply{made, listed} {
		if len(r.header["Set-Cookie"]) > 0 || len(r.header["Server"]) > 0 || len(r.trailer) > 0 {
			return fmt.Errorf("more than SCIM comes out: %v, trailer %v", r.header, r.trailer)
		}
	}
	if blockers, err := st.example.api.Preflight(ctx, "example"); err != nil || st.cutsSCIM(blockers) {
		return fmt.Errorf("preflight still counts SCIM among what is cut off: %+v, %s", blockers, got(err))
	}
	st.saw("%s: a user made and listed from %s, though the tenant is private", asked.Status.BaseURL, st.ground.client)
	return nil
}

// cutsSCIM tells whether an integration is among the blockers that the SCIM
// ingress keeps reachable.
func (st *story) cutsSCIM(blockers []client.Blocker) bool {
	for _, in := range st.platform.Integrations {
		for _, b := range blockers {
			if in.PublicException == "scim" && slices.ContainsFunc(b.Evidence, func(e string) bool { return strings.HasPrefix(e, in.Title) }) {
				return true
			}
		}
	}
	return false
}

// scimOnly: whatever is not SCIM stays outside, at that door and at the others.
func (st *story) scimOnly(ctx context.Context) error {
	if !st.hasSCIM() {
		return nil
	}
	name, before := st.platform.SCIMHost("example"), len(st.scim.publicly(st.platform.Host("example")))
	since := time.Now()
	request := func(line, host string) string { return line + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	hostile := map[string]string{
		"the app":                request("GET /", name),
		"a path beside":          request("GET /scim/v2x", name),
		"up":                     request("GET /scim/v2/../../", name),
		"up, encoded":            request("GET /scim/v2/%2e%2e/%2e%2e/", name),
		"a slash, encoded":       request("GET /scim/v2/x%2f..%2f..%2f", name),
		"two slashes":            request("GET /scim/v2//", name),
		"a path parameter":       request("GET /scim/v2/..;/", name),
		"backslashes":            request(`GET /scim/v2/..\..\`, name),
		"NUL":                    request("GET /scim/v2/Users%00", name),
		"TRACE":                  request("TRACE /scim/v2/Users", name),
		"a tunnel":               request("CONNECT "+name+":443", name),
		"absolute form":          request("GET https://"+name+"/scim/v2/Users", name),
		"another tenant's host":  request("GET /scim/v2/Users", st.platform.SCIMHost("globex")),
		"the standard hostname":  request("GET /scim/v2/Users", st.platform.Host("example")),
		"an upgrade":             "GET /scim/v2/Users HTTP/1.1\r\nHost: " + name + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"two kinds of length":    "POST /scim/v2/Users HTTP/1.1\r\nHost: " + name + "\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a request in a request": "POST /scim/v2/Users HTTP/1.1\r\nHost: " + name + "\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + request("GET /", name),
		"a folded line":          "GET /scim/v2/Users HTTP/1.1\r\nHost: " + name + "\r\nX: a\r\n b\r\n\r\n",
		"line feeds":             "GET /scim/v2/Users HTTP/1.1\nHost: " + name + "\n\n",
	}
	for what, send := range hostile {
		r, err := st.scimSend(ctx, send)
		if err != nil || r.status < 400 || r.status >= 500 {
			return fmt.Errorf("%s: status %d, %s, want a refusal", what, r.status, got(err))
		}
	}
	if after := st.scim.publicly(st.platform.Host("example")); len(after) != before {
		return fmt.Errorf("the app got %+v", after[before:])
	}
	// Its name opens no other door, and no other name opens it.
	if err := st.scimRefused(ctx, st.platform.Host("example")); err != nil {
		return err
	}
	if err := st.scimRefused(ctx, st.platform.SCIMHost("globex")); err != nil {
		return err
	}
	for _, at := range st.places.public {
		if err := st.alerted(ctx, netip.AddrPortFrom(at, st.httpsPort), name); err != nil {
			return err
		}
	}
	if err := st.shut(ctx, nodeIDs()...); err != nil {
		return fmt.Errorf("with the SCIM ingress on: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err := until(ctx, func() error { return st.denied(ctx, st.example, "", name, "path_not_allowed", since) })
	st.saw("%d hostile requests refused, none reached the app; recorded as path_not_allowed and others", len(hostile))
	return err
}

// scimOff: the networks are narrowed, and then it is turned off; each cuts what
// is open, and the private way in notices nothing.
func (st *story) scimOff(ctx context.Context) error {
	if !st.hasSCIM() {
		return nil
	}
	name := st.platform.SCIMHost("example")
	for _, spec := range []client.SCIMIngressSpec{
		{Enabled: true, SourceRanges: []string{"192.0.2.0/24"}}, // TEST-NET-1: nobody
		{},
	} {
		if _, err := st.example.api.SetSCIMIngress(ctx, "example", client.SCIMIngressSpec{Enabled: true}); err != nil {
			return err
		}
		var open *tls.Conn
		err := until(ctx, func() (err error) {
			open, err = st.visitor("internet").handshake(ctx, st.scimDoor(), name)
			return err
		})
		if err != nil {
			return err
		}
		defer open.Close()
		after, err := st.lastEvent(ctx)
		if err != nil {
			return err
		}
		if _, err := st.example.api.SetSCIMIngress(ctx, "example", spec); err != nil {
			return err
		}
		if err := cut(open); err != nil {
			return fmt.Errorf("with %+v: %w", spec, err)
		}
		if err := st.scimRefused(ctx, name); err != nil {
			return fmt.Errorf("with %+v: %w", spec, err)
		}
		if err := st.toldOfNodes(ctx, after); err != nil {
			return fmt.Errorf("with %+v: %w", spec, err)
		}
	}
	if err := until(ctx, func() error { return st.gone(ctx, name) }); err != nil {
		return err
	}
	if err := st.privately(ctx, "example-corp", "example", "first"); err != nil {
		return err
	}
	st.saw("cut and refused from other networks, then for all, and told when every node had followed; %s is gone", name)
	return nil
}

// toldOfNodes waits for the word that every node obeys what was taken away from
// example since an event, and that none is waited for.
func (st *story) toldOfNodes(ctx context.Context, after int64) error {
	soon, cancel := context.WithTimeout(ctx, cutTimeout)
	defer cancel()
	return until(soon, func() error {
		events, err := st.example.api.Events(soon, "", after)
		if err != nil {
			return err
		}
		now, err := st.example.api.SCIMIngress(soon, "example")
		if err != nil {
			return err
		}
		told := slices.ContainsFunc(events, func(e client.Event) bool { return e.Action == "tenant.withdrawn" && e.Subject == "example" })
		if waits := now.Status.WaitsFor; !told || len(waits) > 0 {
			return fmt.Errorf("that every node obeys is told: %v; waits for %v", told, waits)
		}
		return nil
	})
}

// gone demands that the internet finds no address for a name.
func (st *story) gone(ctx context.Context, name string) error {
	if at, err := st.visitor("internet").resolve(ctx, name); err == nil {
		return fmt.Errorf("%s is still %s", name, at)
	}
	return nil
}

// scimRefused demands the alert at example's SCIM door.
func (st *story) scimRefused(ctx context.Context, serverName string) error {
	return st.alerted(ctx, st.scimDoor(), serverName)
}

// alerted demands that a door refuses the internet a server name as it refuses
// everything.
func (st *story) alerted(ctx context.Context, at netip.AddrPort, serverName string) error {
	alert, err := st.visitor("internet").alert(ctx, at, nil, serverName)
	if err != nil {
		return fmt.Errorf("%s at %s: %w", serverName, at, err)
	}
	if !slices.Equal(alert, st.alert) {
		return fmt.Errorf("%s at %s is refused with %x, another's tenant with %x", serverName, at, alert, st.alert)
	}
	return nil
}

// scimReply is what the SCIM ingress answered.
type scimReply struct {
	status          int
	location, body  string
	header, trailer http.Header
}

// scimAsk sends what an identity provider sends, to where the name leads.
func (st *story) scimAsk(ctx context.Context, method, target, body string) (scimReply, error) {
	name := st.platform.SCIMHost("example")
	return st.scimSend(ctx, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s:%d\r\nAuthorization: Bearer %s\r\nContent-Type: application/scim+json\r\nContent-Length: %d\r\n\r\n%s",
		method, target, name, st.httpsPort, scimToken(st.platform.Host("example")), len(body), body))
}

// scimSend sends bytes over TLS to example's SCIM host, and reads the answer.
func (st *story) scimSend(ctx context.Context, send string) (scimReply, error) {
	c, err := st.visitor("internet").handshake(ctx, st.scimDoor(), st.platform.SCIMHost("example"))
	if err != nil {
		return scimReply{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(visitTimeout)); err != nil {
		return scimReply{}, err
	}
	if _, err := io.WriteString(c, send); err != nil {
		return scimReply{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return scimReply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // what refuses a method may say less than it announced
	}
	return scimReply{status: resp.StatusCode, location: resp.Header.Get("Location"), body: string(b), header: resp.Header, trailer: resp.Trailer}, err
}

// takeBackSCIM turns off what an earlier run left on.
func takeBackSCIM(ctx context.Context, p person, tenant string, removed *int) error {
	i, err := p.api.SCIMIngress(ctx, tenant)
	if err != nil || !i.Spec.Enabled {
		return err
	}
	*removed++
	_, err = p.api.SetSCIMIngress(ctx, tenant, client.SCIMIngressSpec{})
	return err
}
