package postern

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// ConnectionCheck is a cluster that the egress nodes of a region look at, and
// report on. It is no way for a workload: those take [Routes.Connections].
type ConnectionCheck struct {
	Kind      ConnectionKind `json:"kind"`
	Hostname  string         `json:"hostname"`
	Region    string         `json:"region"`    // whose egress looks
	Ports     []uint16       `json:"ports"`     // TCP, sorted
	Addresses []netip.Addr   `json:"addresses"` // of the network interfaces of the platform's own endpoint, sorted
	// Every is how long after a look the next one is due, in nanoseconds.
	Every time.Duration `json:"every"`
	// Asked is when somebody last asked to look. A new one makes a look due.
	Asked time.Time `json:"asked,omitzero"`
}

// Sum tells what is looked at: a look at another port or address says nothing of
// this one.
func (c ConnectionCheck) Sum() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%v\x00%v", c.Kind, c.Hostname, c.Region, c.Ports, c.Addresses))
	return hex.EncodeToString(sum[:16])
}

func (c ConnectionCheck) check(at string, es *Errors) {
	es.Add(CheckHostname(at+".hostname", c.Hostname))
	es.Add(CheckRegionName(at+".region", c.Region))
	es.Add(checkPorts(at+".ports", c.Ports))
	if len(c.Addresses) == 0 {
		es.Add(Invalid(at+".addresses", "", "none", "give the addresses of the endpoint's interfaces"))
	}
	if c.Every <= 0 {
		es.Add(Invalid(at+".every", c.Every.String(), "not a time between two looks", "give one in nanoseconds"))
	}
}

// ConnectionLook is what an egress node found when it last looked at a cluster.
// Without a finding that is no warning, the cluster is good.
type ConnectionLook struct {
	Connection string
	Node       string
	Of         string    // [ConnectionCheck.Sum] of what it looked at
	Asked      time.Time // of the check: whose wish it fulfills
	At         time.Time // when it began
	Findings   []Finding
}

// The bounds of what a node reports of clusters.
const (
	MaxReportLooks    = 500  // in one report
	MaxLookFindings   = 32   // of one cluster
	MaxFindingMessage = 1000 // bytes
)

var checkSum = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Validate reports what is wrong with the look by itself; at is its field.
func (l ConnectionLook) Validate(at string) error {
	var es Errors
	es.Add(CheckConnectionID(at+".connection_id", l.Connection))
	if !checkSum.MatchString(l.Of) {
		es.Add(Invalid(at+".of", l.Of, "not the sum of a check", "send that of what was looked at"))
	}
	if len(l.Findings) > MaxLookFindings {
		es.Add(Invalid(at+".findings", strconv.Itoa(len(l.Findings)), fmt.Sprintf("more than %d", MaxLookFindings), "leave the last ones out"))
		return es.Err()
	}
	for i, f := range l.Findings {
		at := path(at+".findings", i)
		if !slices.Contains(findingReasons(), f.Reason) {
			es.Add(Invalid(at+".reason", string(f.Reason), "no such finding", "see docs/conditions.md"))
		}
		if n := len(f.Message); n == 0 || n > MaxFindingMessage {
			es.Add(Invalid(at+".message", strconv.Itoa(n)+" bytes", fmt.Sprintf("not between 1 and %d bytes", MaxFindingMessage), "say briefly what is wrong and what to do"))
		}
	}
	return es.Err()
}
