package nodelink

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/postern-net/postern"
)

// Delta is what turns one route table into a later one.
type Delta struct {
	From          int64                            `json:"from"` // revision that it applies to
	To            int64                            `json:"to"`   // revision that it makes; greater than From
	SetHosts      map[string]postern.Host          `json:"set_hosts,omitempty"`
	DropHosts     []string                         `json:"drop_hosts,omitempty"`
	SetEndpoints  map[string]postern.EndpointGrant `json:"set_endpoints,omitempty"`
	DropEndpoints []string                         `json:"drop_endpoints,omitempty"`

	SetConnections  map[string]postern.ConnectionRoute `json:"set_connections,omitempty"`
	DropConnections []string                           `json:"drop_connections,omitempty"`
	SetWorkloads    map[string]postern.Workload        `json:"set_workloads,omitempty"`
	DropWorkloads   []string                           `json:"drop_workloads,omitempty"`

	SetChecks  map[string]postern.ConnectionCheck `json:"set_checks,omitempty"`
	DropChecks []string                           `json:"drop_checks,omitempty"`

	SetSCIM  map[string]postern.SCIMRoute `json:"set_scim,omitempty"`
	DropSCIM []string                     `json:"drop_scim,omitempty"`
	// Sum is the checksum of the table that results: a node that got it wrong
	// notices, and asks for a snapshot.
	Sum string `json:"sum"`
}

// Diff makes the delta between two tables.
func Diff(from, to postern.Routes) Delta {
	d := Delta{From: from.Revision, To: to.Revision, Sum: Sum(to)}
	d.SetHosts, d.DropHosts = diff(from.Hosts, to.Hosts)
	d.SetEndpoints, d.DropEndpoints = diff(from.Endpoints, to.Endpoints)
	d.SetConnections, d.DropConnections = diff(from.Connections, to.Connections)
	d.SetWorkloads, d.DropWorkloads = diff(from.Workloads, to.Workloads)
	d.SetChecks, d.DropChecks = diff(from.Checks, to.Checks)
	d.SetSCIM, d.DropSCIM = diff(from.SCIM, to.SCIM)
	return d
}

func diff[V any](from, to map[string]V) (set map[string]V, drop []string) {
	set = map[string]V{}
	for k, v := range to {
		if before, ok := from[k]; !ok || !reflect.DeepEqual(before, v) {
			set[k] = v
		}
	}
	for k := range from {
		if _, ok := to[k]; !ok {
			drop = append(drop, k)
		}
	}
	slices.Sort(drop)
	return set, drop
}

// size is how many entries the delta has.
func (d Delta) size() int {
	return len(d.SetHosts) + len(d.DropHosts) + len(d.SetEndpoints) + len(d.DropEndpoints) +
		len(d.SetConnections) + len(d.DropConnections) + len(d.SetWorkloads) + len(d.DropWorkloads) +
		len(d.SetChecks) + len(d.DropChecks) + len(d.SetSCIM) + len(d.DropSCIM)
}

// Apply makes the table that the delta leads to; r stays as it is. A delta of
// another revision, one that goes back, and one that does not fit the table
// are errors.
func (d Delta) Apply(r postern.Routes) (postern.Routes, error) {
	switch {
	case d.From != r.Revision:
		return postern.Routes{}, fmt.Errorf("nodelink: a delta of revision %d does not apply to revision %d", d.From, r.Revision)
	case d.To <= d.From:
		return postern.Routes{}, fmt.Errorf("nodelink: a delta from revision %d goes back to %d", d.From, d.To)
	}
	out := postern.Routes{Revision: d.To}
	var err error
	if out.Hosts, err = merge("host", r.Hosts, d.SetHosts, d.DropHosts); err != nil {
		return postern.Routes{}, err
	}
	if out.Endpoints, err = merge("endpoint", r.Endpoints, d.SetEndpoints, d.DropEndpoints); err != nil {
		return postern.Routes{}, err
	}
	if out.SCIM, err = merge("SCIM host", r.SCIM, d.SetSCIM, d.DropSCIM); err != nil {
		return postern.Routes{}, err
	}
	if out.Connections, err = merge("connection", r.Connections, d.SetConnections, d.DropConnections); err != nil {
		return postern.Routes{}, err
	}
	if out.Workloads, err = merge("workload", r.Workloads, d.SetWorkloads, d.DropWorkloads); err != nil {
		return postern.Routes{}, err
	}
	if out.Checks, err = merge("check", r.Checks, d.SetChecks, d.DropChecks); err != nil {
		return postern.Routes{}, err
	}
	if Sum(out) != d.Sum {
		return postern.Routes{}, fmt.Errorf("nodelink: the delta from revision %d to %d makes another table than the control plane's", d.From, d.To)
	}
	return out, nil
}

func merge[V any](kind string, before, set map[string]V, drop []string) (map[string]V, error) {
	out := make(map[string]V, len(before)+len(set))
	maps.Copy(out, before)
	for _, k := range drop {
		if _, ok := out[k]; !ok {
			return nil, fmt.Errorf("nodelink: a delta drops %s %q, which is not there", kind, k)
		}
		delete(out, k)
	}
	maps.Copy(out, set)
	return out, nil
}

// Sum is a checksum of a table's content: SHA-256 over its JSON, whose keys are
// sorted. No map and an empty one are the same.
func Sum(r postern.Routes) string {
	if r.Hosts == nil {
		r.Hosts = map[string]postern.Host{}
	}
	if r.Endpoints == nil {
		r.Endpoints = map[string]postern.EndpointGrant{}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return "" // strings, numbers and addresses always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
