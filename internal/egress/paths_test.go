package egress_test

import (
	"io"
	"net/http"
	"net/netip"
	"testing"

	"github.com/postern-net/postern"
)

// Connections take turns at an endpoint's interfaces, and go on from one that
// takes none; it is tried last for a while.
func TestInterfacesTakeTurns(t *testing.T) {
	for name, by := range map[string]func(t *testing.T, w *world) *http.Client{
		"connect":     func(t *testing.T, w *world) *http.Client { return w.byBearer(t, exampleToken) },
		"transparent": func(t *testing.T, w *world) *http.Client { return w.client(t, nil, w.example) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(t, change(exampleHost, func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{secondAt, exampleAt} }))
			client := by(t, w)
			served := func() map[string]int {
				t.Helper()
				out := map[string]int{}
				for range 24 {
					who, err := w.get(t, client, exampleHost)
					must(t, err)
					out[who]++
				}
				return out
			}
			if got := served(); got["example"] != 24 { // nobody is at the second
				t.Errorf("with one interface down: %v", got)
			}
			w.cluster(t, netip.AddrPortFrom(secondAt, w.port), "second", exampleHost)
			if got := served(); got["example"] != 24 {
				t.Errorf("one that was down a moment ago is tried first: %v", got)
			}
			fresh := newWorld(t)
			fresh.cluster(t, netip.AddrPortFrom(secondAt, fresh.port), "second", exampleHost)
			fresh.apply(t, change(exampleHost, func(c *postern.ConnectionRoute) { c.Addresses = []netip.Addr{secondAt, exampleAt} }))
			w, client = fresh, by(t, fresh)
			if got := served(); got["example"] == 0 || got["second"] == 0 {
				t.Errorf("with both up: %v", got)
			}
		})
	}
}

// When all were down a moment ago, all are tried.
func TestInterfacesThatWereDownAreTried(t *testing.T) {
	w := newWorld(t)
	w.apply(t, change(exampleHost, func(c *postern.ConnectionRoute) {
		c.Addresses = []netip.Addr{secondAt, netip.MustParseAddr("127.80.1.3")}
	}))
	if a := tunnelTo(t, dial(t, w.connect), exampleHost, w.port, exampleToken); a.status != http.StatusBadGateway {
		t.Errorf("%+v", a)
	}
	ln := listen(t, netip.AddrPortFrom(secondAt, w.port).String())
	defer ln.Close()
	c := dial(t, w.connect)
	if a := tunnelTo(t, c, exampleHost, w.port, exampleToken); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
	must(t, c.Close())
	if conn, err := ln.Accept(); err == nil {
		_, _ = io.Copy(io.Discard, conn)
		must(t, conn.Close())
	}
}
