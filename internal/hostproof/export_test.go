package hostproof

import "github.com/miekg/dns"

// Read is for the fuzz test.
func Read(name string, m *dns.Msg) ([]string, error) {
	texts, _, err := read(dns.Question{Name: name, Qtype: dns.TypeTXT, Qclass: dns.ClassINET}, m)
	return texts, err
}
