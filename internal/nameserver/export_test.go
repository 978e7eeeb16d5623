package nameserver

import (
	"github.com/miekg/dns"

	"github.com/postern-net/postern"
)

// Reply is what a nameserver with its defaults says from zones, without the
// network.
func Reply(z postern.Zones) func(*dns.Msg) *dns.Msg {
	t := compile(z, nextSerial(nil, z.Revision), Config{}.withDefaults())
	return func(query *dns.Msg) *dns.Msg { return reply(t, query) }
}
