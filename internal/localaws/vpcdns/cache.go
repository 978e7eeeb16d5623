package vpcdns

import (
	"sync"
	"time"

	"github.com/miekg/dns"
)

// How long an answer is kept at most, whatever its zone says: a day as common
// resolvers do, and three hours for a denial (RFC 2308 section 5).
const (
	maxPositive = 24 * time.Hour
	maxNegative = 3 * time.Hour
)

// maxKept bounds the number of kept answers of one resolver.
const maxKept = 10_000

// cache keeps public answers, one for each name and type.
type cache struct {
	mu    sync.Mutex
	epoch int // counts flushes: what was asked before one is not kept after it
	kept  map[dns.Question]entry
}

type entry struct {
	answer Answer
	at     time.Time
	until  time.Time
}

func (c *cache) begin() (epoch int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

func (c *cache) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	clear(c.kept)
}

// get finds a kept answer, with what is left of its TTLs. A name that does not
// exist has no records of any type, and a CNAME answers for every type.
func (c *cache) get(q dns.Question, now time.Time) (Answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range []dns.Question{q, every(q), aliased(q)} {
		e, ok := c.kept[key]
		if !ok {
			continue
		}
		if !now.Before(e.until) {
			delete(c.kept, key)
			continue
		}
		return e.answer.aged(now.Sub(e.at)), true
	}
	return Answer{}, false
}

// every is the key of a name's absence, whatever type was asked.
func every(q dns.Question) dns.Question { q.Qtype = dns.TypeNone; return q }

// aliased is the key of a name's CNAME.
func aliased(q dns.Question) dns.Question { q.Qtype = dns.TypeCNAME; return q }

// put keeps an answer for its TTL. A denial without an SOA record is not kept
// (RFC 2308 section 5), nor is what was asked before a flush.
func (c *cache) put(q dns.Question, a Answer, now time.Time, epoch int) {
	life := a.life()
	if life <= 0 {
		return
	}
	key := q
	switch {
	case !a.Exists:
		key = every(q)
	case len(a.Records) > 0 && a.Records[0].Header().Rrtype == dns.TypeCNAME:
		key = aliased(q)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	if c.kept == nil {
		c.kept = map[dns.Question]entry{}
	}
	c.makeRoom(now)
	c.kept[key] = entry{answer: a, at: now, until: now.Add(life)}
}

// makeRoom drops what has expired once the cache is full, or else some entry.
func (c *cache) makeRoom(now time.Time) {
	if len(c.kept) < maxKept {
		return
	}
	for key, e := range c.kept {
		if !now.Before(e.until) {
			delete(c.kept, key)
		}
	}
	for key := range c.kept {
		if len(c.kept) < maxKept {
			return
		}
		delete(c.kept, key)
	}
}

// life is how long an answer may be kept.
func (a Answer) life() time.Duration {
	seconds := func(rr dns.RR) time.Duration { return time.Duration(rr.Header().Ttl) * time.Second }
	switch {
	case a.Failed:
		return 0
	case len(a.Records) > 0:
		life := maxPositive
		for _, rr := range a.Records {
			life = min(life, seconds(rr))
		}
		return life
	case a.Authority != nil:
		return min(maxNegative, seconds(a.Authority))
	}
	return 0
}

// aged is an answer as it is some time later.
func (a Answer) aged(by time.Duration) Answer {
	records := make([]dns.RR, len(a.Records))
	for i, rr := range a.Records {
		records[i] = older(rr, by)
	}
	a.Records = records
	if a.Authority != nil {
		a.Authority = older(a.Authority, by)
	}
	return a
}

func older(rr dns.RR, by time.Duration) dns.RR {
	rr = dns.Copy(rr)
	h := rr.Header()
	h.Ttl -= min(h.Ttl, uint32(max(0, by)/time.Second)) //nolint:gosec // at most a day
	return rr
}
