package nameserver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/nameserver"
)

// many are the zones of a platform with as many tenants.
func many(tenants int) postern.Zones {
	h, p := map[string][]postern.Record{}, map[string][]postern.Record{}
	for i := range tenants {
		tenant := fmt.Sprintf("tenant-%d.", i)
		h[tenant+hosted] = one("CNAME", 60, tenant+private)
		p[tenant+private] = one("A", 60, "192.0.2.20")
	}
	return postern.Zones{Revision: 1, Zones: map[string]postern.Zone{hosted: {Records: h}, private: {Records: p}}}
}

func BenchmarkReply(b *testing.B) {
	reply := nameserver.Reply(many(10_000))
	for name, q := range map[string]*dns.Msg{
		"cname":    query("tenant-4711."+hosted+".", dns.TypeA, with(opt(".", 0, 1232, false))),
		"nxdomain": query("nobody."+hosted+".", dns.TypeA, with(opt(".", 0, 1232, false))),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := reply(q).Pack(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQueryUDP(b *testing.B) {
	w := serve(b, many(10_000))
	conn := w.dial(b, "udp")
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	q := pack(b, query("tenant-4711."+hosted+".", dns.TypeA, with(opt(".", 0, 1232, false))))
	answer := make([]byte, 1232)
	for b.Loop() {
		if _, err := conn.Write(q); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(answer); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	w := serve(b, postern.Zones{})
	z := many(10_000)
	for b.Loop() {
		z.Revision++
		if ok, err := w.Apply(z); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
