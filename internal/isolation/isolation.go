// Package isolation asks the platform's backends for another host than the one
// that was admitted. The ingress sees the server name and not the Host header,
// so a backend that does not answer 421 Misdirected Request would serve one
// tenant's clients another tenant's data.
package isolation

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/proxyproto"
)

// Timeout bounds the asking of one backend.
const Timeout = 5 * time.Second

// atOnce bounds how many backends are asked side by side.
const atOnce = 8

// ProbeAll asks every backend of a route table, admitted for one of the hosts
// that lead to it: for a host that there is not, and for another real one where
// it has one. round chooses which two, so that in time all have their turn.
func ProbeAll(ctx context.Context, r postern.Routes, round int) []postern.Isolation {
	hosts := map[netip.AddrPort][]string{}
	for _, name := range slices.Sorted(maps.Keys(r.Hosts)) {
		h := r.Hosts[name]
		lists := append(slices.Collect(maps.Values(h.RegionBackends)), h.Backends)
		for _, b := range slices.Concat(lists...) {
			if its := hosts[b]; len(its) == 0 || its[len(its)-1] != name { // a host names it twice in a row
				hosts[b] = append(its, name)
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var found []postern.Isolation
	slots := make(chan struct{}, atOnce)
	for at, its := range hosts {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			host := its[round%len(its)]
			isolated, detail := Probe(ctx, at, host, "postern-isolation-probe-"+host)
			if neighbour := its[(round+1)%len(its)]; isolated && neighbour != host {
				isolated, detail = Probe(ctx, at, host, neighbour)
			}
			mu.Lock()
			defer mu.Unlock()
			found = append(found, postern.Isolation{Address: at.String(), Isolated: isolated, Detail: detail, At: time.Now()})
		})
	}
	wg.Wait()
	slices.SortFunc(found, func(a, b postern.Isolation) int {
		if a.Address < b.Address {
			return -1
		}
		return 1
	})
	return found
}

// Probe connects to a backend as the ingress does, admitted for one host, and
// asks it for another. Only 421 is isolated; what it answered instead, or why
// it did not, is the detail.
func Probe(ctx context.Context, at netip.AddrPort, admitted, other string) (isolated bool, detail string) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return connect(ctx, at, admitted)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+other+"/", nil)
	if err != nil {
		return false, "cannot be asked: " + err.Error()
	}
	req.Header.Set("User-Agent", "postern-isolation-probe")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false, "does not answer: " + err.Error()
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		return false, fmt.Sprintf("admitted for %s and asked for %s it answers %d, not 421", admitted, other, resp.StatusCode)
	}
	return true, "answers 421 to another host"
}

func connect(ctx context.Context, at netip.AddrPort, admitted string) (net.Conn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	local, _ := netip.ParseAddrPort(raw.LocalAddr().String())
	header, err := proxyproto.Append(nil, proxyproto.Header{Source: local, Destination: at, Authority: admitted})
	if err == nil {
		_, err = raw.Write(header)
	}
	if err != nil {
		_ = raw.Close() // it is being given up
		return nil, err
	}
	c := tls.Client(raw, &tls.Config{
		ServerName: admitted, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // what is asked is who the backend answers, not who it is; nothing secret is sent
	})
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close() // it has failed already
		return nil, err
	}
	return c, nil
}
