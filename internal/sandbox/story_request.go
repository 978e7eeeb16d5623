package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
)

// sharedApp is the app that the steps are about; false: the platform has none
// that asks for another one to be private first and for a single segment.
func (st *story) sharedApp() (postern.App, bool) {
	for _, a := range sharedApps(st.platform) {
		if a.Requires != "" && a.SingleSegment {
			return a, true
		}
	}
	st.saw("the platform has no such app")
	return postern.App{}, false
}

// askApp asks a shared app for an organization's data; "" asks for its first
// page.
func (st *story) askApp(ctx context.Context, network string, at netip.Addr, serverName, host, organization string) (reply, error) {
	if organization != "" {
		host += "/organizations/" + organization
	}
	return st.visitor(network).get(ctx, netip.AddrPortFrom(at, st.httpsPort), serverName, host)
}

// requestTooEarly: Govern is public still.
func (st *story) requestTooEarly(ctx context.Context) error {
	app, ok := st.sharedApp()
	if !ok {
		return nil
	}
	_, err := st.example.api.SetApp(ctx, "example-corp", app.ID, client.AppAccessSpec{Enabled: true})
	if !client.HasCode(err, "conflict") || !strings.Contains(err.Error(), "RequiredAppPrivate") {
		return fmt.Errorf("app %s before a cutover: %s, want a conflict that names RequiredAppPrivate", app.ID, got(err))
	}
	if err := st.appRefused(ctx, app, "example-corp", "first"); err != nil {
		return err
	}
	if err := st.appPublic(ctx, app); err != nil {
		return err
	}
	st.saw("refused: %s", strings.SplitN(err.Error(), "\n", 2)[0])
	return nil
}

// appRefused demands an alert for each host of the app, from every node.
func (st *story) appRefused(ctx context.Context, app postern.App, network, endpoint string) error {
	for _, host := range app.Hosts {
		err := st.everyNode(func() error {
			if r, err := st.askApp(ctx, network, st.doors[endpoint], host, host, ""); !errors.Is(err, errAlert) {
				return fmt.Errorf("%s through %s: status %d, %s, want an alert", host, st.ids[endpoint], r.status, got(err))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// appPublic demands that the internet has the app, and nobody's data.
func (st *story) appPublic(ctx context.Context, app postern.App) error {
	at := st.places.public[st.home.Region]
	for _, host := range app.Hosts {
		r, err := st.askApp(ctx, "internet", at, host, host, "")
		if err != nil || r.status != 200 || r.app.App != app.ID || r.app.Organization != "" || r.app.VPCEndpointID != "" {
			return fmt.Errorf("%s from the internet: status %d, %s, from %+v", host, r.status, got(err), r.app)
		}
		if r, err := st.askApp(ctx, "internet", at, host, host, "example-corp"); err != nil || r.status != 403 {
			return fmt.Errorf("example-corp's data at %s from the internet: status %d, %s, want 403", host, r.status, got(err))
		}
	}
	return nil
}

// appPrivate demands that an organization has the app through its endpoint, by
// every node: its own data, and no other's.
func (st *story) appPrivate(ctx context.Context, app postern.App, network, endpoint, other string) error {
	own := st.organization(network)
	for _, host := range app.Hosts {
		// Each question goes to every node before the next: two in a visit would
		// each have a node of its own.
		err := st.everyNode(func() error {
			r, err := st.askApp(ctx, network, st.doors[endpoint], host, host, own)
			if err != nil {
				return fmt.Errorf("%s through %s: %w", host, st.ids[endpoint], err)
			}
			if r.status != 200 || r.app.Organization != own || r.app.VPCEndpointID != st.ids[endpoint] || !strings.Contains(r.app.Data, own) {
				return fmt.Errorf("%w: %s through %s of %s: status %d from %+v", errFinal, host, st.ids[endpoint], own, r.status, r.app)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = st.everyNode(func() error {
			r, err := st.askApp(ctx, network, st.doors[endpoint], host, host, other)
			if err != nil {
				return fmt.Errorf("%s's data through %s: %w", other, st.ids[endpoint], err)
			}
			if r.status != 403 {
				return fmt.Errorf("%w: %s's data for %s: status %d, want 403", errFinal, other, own, r.status)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// requestApp: example is private now, and all of Example Corp's tenants are in
// one segment.
func (st *story) requestApp(ctx context.Context) error {
	app, ok := st.sharedApp()
	if !ok {
		return nil
	}
	on, err := st.example.api.SetApp(ctx, "example-corp", app.ID, client.AppAccessSpec{Enabled: true})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(on.Status.Customer, func(r client.AppRecords) bool { return r.VPCEndpointID == st.ids["first"] })
	if i < 0 || len(on.Status.Customer[i].Records) != len(app.Hosts) {
		return fmt.Errorf("the customer is told to create %+v, want a record for each of %v for %s", on.Status.Customer, app.Hosts, st.ids["first"])
	}
	dns, err := st.example.api.TenantDNS(ctx, "example")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(dns.Customer, func(n client.NetworkDNS) bool { return slices.Equal(n.Apps, on.Status.Customer[i].Records) }) {
		return fmt.Errorf("the tenant's DNS does not tell of the app: %+v", dns.Customer)
	}
	for _, r := range on.Status.Customer[i].Records {
		if err := st.appName(ctx, r.Name); err != nil {
			return err
		}
	}
	if err := until(ctx, func() error { return st.appPrivate(ctx, app, "example-corp", "first", "globex") }); err != nil {
		return err
	}
	// One name in the handshake, and another in the request.
	tenant := st.platform.Host("example")
	for _, c := range [][2]string{{app.Hosts[0], tenant}, {tenant, app.Hosts[0]}, {app.Hosts[0], app.Hosts[len(app.Hosts)-1]}} {
		if r, err := st.askApp(ctx, "example-corp", st.doors["first"], c[0], c[1], ""); c[0] != c[1] && (err != nil || r.status != 421) {
			return fmt.Errorf("server name %s with Host %s: status %d, %s, want 421", c[0], c[1], r.status, got(err))
		}
	}
	// Nobody else's endpoint, and the internet as before.
	if err := st.appRefused(ctx, app, "globex", "globex"); err != nil {
		return err
	}
	if err := st.appPublic(ctx, app); err != nil {
		return err
	}
	st.saw("%s through %s: 200 with Example Corp's data, 403 for Globex's; Globex's endpoint an alert; the internet 200 and nobody's data", strings.Join(app.Hosts, " and "), st.ids["first"])
	return nil
}

// appName makes one of the app's names lead to the first endpoint in Example
// Corp's network, and nowhere else.
func (st *story) appName(ctx context.Context, name string) error {
	if err := st.example.createAlias(ctx, st.vpc("example-corp"), name, st.ids["first"]); err != nil {
		return err
	}
	err := until(ctx, func() error {
		at, err := st.visitor("example-corp").resolve(ctx, name)
		if err == nil && !st.behind("first", at) {
			err = fmt.Errorf("in the VPC %s is %s, which is no address of %s", name, at, st.ids["first"])
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, network := range []string{"internet", "globex"} {
		if at, err := st.visitor(network).resolve(ctx, name); err == nil && st.behind("first", at) {
			return fmt.Errorf("from %s %s is %s, an address of %s", network, name, at, st.ids["first"])
		}
	}
	return nil
}

// requestLimits: a tenant in another segment takes the app away, and so does
// turning it off; what is open is cut, and the tenant's own way is not.
func (st *story) requestLimits(ctx context.Context) error {
	app, ok := st.sharedApp()
	if !ok {
		return nil
	}
	told := "the platform has one segment"
	if len(st.platform.Segments) > 1 {
		var err error
		if told, err = st.anotherSegment(ctx, app); err != nil {
			return err
		}
	}
	err := st.losesApp(ctx, app, func() error {
		_, err := st.example.api.SetApp(ctx, "example-corp", app.ID, client.AppAccessSpec{})
		return err
	})
	if err != nil {
		return fmt.Errorf("turned off: %w", err)
	}
	if _, err := st.example.api.SetApp(ctx, "example-corp", app.ID, client.AppAccessSpec{Enabled: true}); err != nil { // the rollback takes it away
		return err
	}
	if err := until(ctx, func() error { return st.appPrivate(ctx, app, "example-corp", "first", "globex") }); err != nil {
		return fmt.Errorf("turned on again: %w", err)
	}
	if st.beforeRollback, err = st.lastEvent(ctx); err != nil {
		return err
	}
	st.saw("%s; cut, back without that tenant, and cut when it was turned off", told)
	return nil
}

// requestLost: example was private and is public again, and no other of Example
// Corp's tenants is private.
func (st *story) requestLost(ctx context.Context) error {
	app, ok := st.sharedApp()
	if !ok {
		return nil
	}
	soon, cancel := context.WithTimeout(ctx, cutTimeout) // the other nodes
	defer cancel()
	if err := until(soon, func() error { return st.appRefused(soon, app, "example-corp", "first") }); err != nil {
		return err
	}
	var why string
	err := until(soon, func() error {
		events, err := st.example.api.Events(soon, "", st.beforeRollback)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(events, func(e client.Event) bool {
			return e.Action == "app.lost" && strings.Contains(e.Message, "RequiredPublic")
		})
		if i < 0 {
			return fmt.Errorf("no event tells that app %s was lost, and why, among %d", app.ID, len(events))
		}
		why = events[i].Message
		return nil
	})
	if err != nil {
		return err
	}
	if err := st.appPublic(ctx, app); err != nil {
		return err
	}
	st.saw("an alert at the endpoint, the internet as before; %s", why)
	_, err = st.example.api.SetApp(ctx, "example-corp", app.ID, client.AppAccessSpec{})
	return err
}

// farTenant is Example Corp's for a while, in another segment than its others.
const farTenant = "example-far"

// anotherSegment gives Example Corp a tenant in the second segment for a while.
func (st *story) anotherSegment(ctx context.Context, app postern.App) (told string, err error) {
	far := client.Tenant{ID: farTenant, Spec: client.TenantSpec{Organization: "example-corp", Region: st.platform.Segments[1].Regions[0].ID}}
	_, err = st.admin.CreateTenant(ctx, far)
	if !client.HasCode(err, "conflict") || !strings.Contains(err.Error(), app.ID) || !strings.Contains(err.Error(), far.ID+" in "+st.platform.Segments[1].ID) {
		return "", fmt.Errorf("a tenant in another segment: %s, want a conflict that names the app and the tenants", got(err))
	}
	told = err.Error()
	err = st.losesApp(ctx, app, func() error {
		_, err := st.admin.CreateTenant(ctx, far, app.ID)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("with a tenant in another segment: %w", err)
	}
	if err := st.admin.DeleteTenant(ctx, far.ID); err != nil {
		return "", err
	}
	return told, until(ctx, func() error { return st.appPrivate(ctx, app, "example-corp", "first", "globex") })
}

// losesApp does something by which Example Corp loses the app, while a
// connection to it is open.
func (st *story) losesApp(ctx context.Context, app postern.App, do func() error) error {
	open, err := st.visitor("example-corp").handshake(ctx, netip.AddrPortFrom(st.doors["first"], st.httpsPort), app.Hosts[0])
	if err != nil {
		return err
	}
	defer open.Close()
	if err := do(); err != nil {
		return err
	}
	if err := cut(open); err != nil {
		return err
	}
	soon, cancel := context.WithTimeout(ctx, cutTimeout) // the other nodes
	defer cancel()
	if err := until(soon, func() error { return st.appRefused(soon, app, "example-corp", "first") }); err != nil {
		return err
	}
	return st.answered(ctx, "example-corp", "first", "example")
}

// takeBackApps turns off what an earlier run left on.
func takeBackApps(ctx context.Context, p person, removed *int) error {
	apps, err := p.api.Apps(ctx, p.organization)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if !a.Spec.Enabled {
			continue
		}
		*removed++
		if _, err := p.api.SetApp(ctx, p.organization, a.ID, client.AppAccessSpec{}); err != nil {
			return err
		}
	}
	return nil
}
