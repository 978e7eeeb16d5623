package egress_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/egress"
	"github.com/postern-net/postern/internal/relay"
)

func TestTransparent(t *testing.T) {
	w := newWorld(t)
	if who, err := w.get(t, w.client(t, nil, w.example), exampleHost); err == nil {
		t.Errorf("without a table: %q", who)
	}
	w.apply(t, func(r *postern.Routes) {
		r.Connections["bad.example.com"] = postern.ConnectionRoute{
			ID: "dc_bad", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{w.port}, Reason: postern.ReasonPrivateCA, Message: "x",
			Addresses: []netip.Addr{netip.MustParseAddr("127.80.1.9")},
		}
		r.Connections["other-port.example.com"] = postern.ConnectionRoute{
			ID: "dc_port", Tenant: "example", Organization: "example-corp", Region: region, Ports: []uint16{1}, Ready: true, Addresses: []netip.Addr{secondAt},
		}
	})
	for _, c := range []struct {
		at         netip.AddrPort
		host, want string
	}{{w.example, exampleHost, "example"}, {w.globex, globexHost, "globex"}} {
		if who, err := w.get(t, w.client(t, nil, c.at), c.host); err != nil || who != c.want {
			t.Errorf("%s: %q, %v", c.host, who, err)
		}
	}
	w.waitDenied(t, postern.DenyNotReady, "", "")
	for name, c := range map[string]struct {
		at   netip.AddrPort
		host string
		deny postern.Denial
	}{
		"another tenant's host": {w.example, globexHost, postern.DenyUnknownHost},
		"by the other's":        {w.globex, exampleHost, postern.DenyUnknownHost},
		"nobody's":              {w.example, "nobody.example.com", postern.DenyUnknownHost},
		"no name":               {w.example, "", postern.DenyNoServerName},
		"not ready":             {w.example, "bad.example.com", postern.DenyNotReady},
		"another port":          {w.example, "other-port.example.com", postern.DenyWrongPort},
	} {
		conn := dial(t, c.at.String())
		_, err := conn.Write(clientHello(t, c.host))
		must(t, err)
		if got, err := io.ReadAll(conn); err != nil || string(got) != alert {
			t.Errorf("%s: read %q, %v; want the alert", name, got, err)
		}
		w.waitDenied(t, c.deny)
	}
	for _, r := range w.records(t) {
		if r["msg"] == "connection refused" && (r["tenant"] == "" || r["listener"] != "transparent") {
			t.Errorf("%v", r)
		}
	}
}

// The workloads of one tenant, however many they are, take no place from
// those of another.
func TestTransparentShares(t *testing.T) {
	w := newWorld(t, func(c *egress.Config) { c.Engine = relay.New(relay.Config{MaxConnections: 8}) }) // a share is two
	w.apply(t)
	// from opens a connection from an address; what comes of it is nothing, as
	// long as it is open, or the alert.
	from := func(address string, at netip.AddrPort) net.Conn {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 0))}
		c, err := d.DialContext(t.Context(), "tcp", at.String())
		must(t, err)
		t.Cleanup(func() { c.Close() })
		must(t, c.SetDeadline(time.Now().Add(patience)))
		return c
	}
	session := func(address string, at netip.AddrPort, host string) {
		t.Helper()
		c := tls.Client(from(address, at), &tls.Config{ServerName: host, RootCAs: w.authority.pool()})
		must(t, c.Handshake())
	}
	session("127.0.0.2", w.example, exampleHost)
	session("127.0.0.3", w.example, exampleHost)
	if got, err := io.ReadAll(from("127.0.0.4", w.example)); err != nil || string(got) != alert {
		t.Errorf("a third connection of one tenant: read %q, %v; want the alert", got, err)
	}
	session("127.0.0.2", w.globex, globexHost)
	session("127.0.0.3", w.globex, globexHost)
	w.waitDenied(t, "", "", "", "", postern.DenyOverload)
}

// What a transparent listener let out is cut with its connection, and when the
// endpoint was replaced.
func TestRecheckCutsTransparent(t *testing.T) {
	for name, edit := range map[string]func(*postern.ConnectionRoute){
		"not ready": func(c *postern.ConnectionRoute) { c.Ready, c.Reason = false, postern.ReasonPrivateCA },
		"replaced":  func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{secondAt} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(t)
			open := func(at netip.AddrPort, host string) *tls.Conn {
				c := tls.Client(dial(t, at.String()), &tls.Config{ServerName: host, RootCAs: w.authority.pool()})
				must(t, c.Handshake())
				must(t, alive(c))
				return c
			}
			cut, kept := open(w.example, exampleHost), open(w.globex, globexHost)
			w.apply(t, change(exampleHost, edit))
			if alive(cut) == nil {
				t.Error("it lives on")
			}
			must(t, alive(kept))
		})
	}
}
