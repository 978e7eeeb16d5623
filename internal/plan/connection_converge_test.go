package plan_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/plan"
)

// connectionModel is a row, and AWS as far as it concerns it: listings lag, and
// what is asked for twice is made once.
type connectionModel struct {
	row  postern.DataConnection
	gone bool // the row
	now  time.Time

	endpoint *postern.OutboundEndpoint
	group    *postern.OutboundGroup
	lag      map[string]int // looks that do not see it yet
	made     int            // endpoints that ever were

	authorized, dns, good, silent bool
	behind                        bool // an egress node has not heard of the removal
}

func (m *connectionModel) view() plan.ConnectionView {
	v := plan.ConnectionView{
		Principal: "arn:aws:iam::999999999999:root", Accounts: []string{"111111111111"}, Rules: plan.Rules{MissingGrace: 10 * time.Second, Looks: plan.LookRules{Lifetime: lookLifetime}}, Now: m.now,
		Network:  &postern.OutboundNetwork{VPC: "vpc-1", EgressGroup: egressGroup, Subnets: []postern.OutboundSubnet{{ID: "subnet-1", Zone: outboundZones[0]}}},
		Hostname: plan.HostnameView{Challenge: "x", Looked: true, Found: m.dns},
		Service:  plan.ServiceView{Looked: true},
		Removal:  plan.RemovalView{Withdrawn: !m.behind},
		Check:    plan.CheckView{Nodes: 1, Looks: []postern.ConnectionLook{{Connection: connectionID, Node: "egress-a", Of: lookedAt("10.0.0.1"), At: m.now}}},
	}
	if m.authorized {
		v.Service.Service = &postern.EndpointService{Owner: "111111111111", Interface: true, IPv4: true, AcceptanceRequired: true, Zones: outboundZones}
	}
	if !m.good {
		v.Check.Looks[0].Findings = []postern.Finding{{Reason: postern.ReasonPrivateCA, Message: "private"}}
	}
	if m.silent {
		return v
	}
	v.Cloud = &plan.ConnectionCloud{}
	seen := func(what string) bool {
		m.lag[what] = max(0, m.lag[what]-1)
		return m.lag[what] == 0
	}
	if m.endpoint != nil && seen("endpoint") {
		v.Cloud.Endpoints = []postern.OutboundEndpoint{*m.endpoint}
	}
	if m.group != nil && seen("group") {
		v.Cloud.Groups = []postern.OutboundGroup{*m.group}
	}
	return v
}

// round decides and acts; a crash loses what was not done yet.
func (m *connectionModel) round(t *rapid.T, crashAfter, lag int) (rest bool) {
	m.now = m.now.Add(time.Second)
	if m.gone {
		return true
	}
	s := plan.Connection(m.row, m.view())
	if crashAfter == 0 {
		return false // before anything was stored
	}
	m.row, m.gone = s.After, s.Delete
	for i, a := range s.Actions {
		if i+1 >= crashAfter {
			break
		}
		m.do(t, a, lag)
	}
	if m.endpoint != nil && m.endpoint.State == postern.ConnectionPending {
		m.endpoint.State = postern.ConnectionAvailable
	}
	if m.endpoint != nil && m.endpoint.State == postern.ConnectionDeleting {
		m.endpoint = nil
	}
	return !s.Unsettled
}

func (m *connectionModel) do(t *rapid.T, a plan.ConnectionAction, lag int) {
	switch a.Kind {
	case plan.CreateGroup:
		if m.group == nil { // the name is taken otherwise
			m.group, m.lag["group"] = &postern.OutboundGroup{ID: "sg-1", ConnectionID: connectionID}, lag
		}
	case plan.SetGroupRules:
		m.group.Rules = append(slices.DeleteFunc(m.group.Rules, func(r postern.GroupRule) bool { return slices.Contains(a.Remove, r) }), a.Add...)
	case plan.CreateEndpoint:
		if m.made > 0 {
			return // the client token made it before
		}
		m.made++
		m.lag["endpoint"] = lag
		m.endpoint = &postern.OutboundEndpoint{
			ID: "vpce-1", ConnectionID: connectionID, ServiceName: clusterService, State: postern.ConnectionPendingAcceptance,
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Groups: []string{a.Group},
		}
	case plan.SetEndpointGroups:
		t.Fatalf("its endpoint has other groups: %+v", a)
	case plan.DeleteEndpoint:
		if m.endpoint == nil || a.Target != m.endpoint.ID {
			t.Fatalf("it deletes %s", a.Target)
		}
		m.endpoint.State = postern.ConnectionDeleting
	case plan.DeleteGroup:
		if m.endpoint != nil {
			return // DependencyViolation
		}
		m.group = nil
	}
}

// Whatever happens on the way, crashes and lagging listings included, a
// connection ends with one endpoint, and a deleted one with nothing.
func TestConnectionsConverge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &connectionModel{row: clusterConnection(), now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), lag: map[string]int{}, good: true}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				m.authorized = !m.authorized
			case 1:
				m.dns = !m.dns
			case 2:
				m.good = !m.good
			case 3:
				m.silent = !m.silent
			case 4:
				if m.endpoint != nil && m.endpoint.State == postern.ConnectionPendingAcceptance {
					m.endpoint.State = postern.ConnectionPending
				}
			case 6:
				m.behind = !m.behind
			case 5:
				if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					m.row.Removing = true
				}
			default:
				m.round(t, rapid.IntRange(0, 3).Draw(t, "crash after"), rapid.IntRange(0, 5).Draw(t, "lag"))
			}
			if m.made > 1 {
				t.Fatalf("%d endpoints were made", m.made)
			}
			if m.row.State == postern.DataConnectionReady && m.row.ProvenAt.IsZero() {
				t.Fatal("ready without a proof")
			}
		}
		m.authorized, m.dns, m.good, m.silent, m.behind = true, true, true, false, false
		for range 100 {
			if m.endpoint != nil && m.endpoint.State == postern.ConnectionPendingAcceptance {
				m.endpoint.State = postern.ConnectionPending
			}
			m.round(t, 100, 0)
		}
		switch {
		case m.row.Removing && (!m.gone || m.endpoint != nil || m.group != nil):
			t.Fatalf("deleted, and the row is gone: %v, endpoint %+v, group %+v", m.gone, m.endpoint, m.group)
		case m.row.Removing:
		case m.row.State != postern.DataConnectionReady || m.endpoint == nil || m.group == nil || m.made != 1:
			t.Fatalf("it is %s, with endpoint %+v and group %+v: %+v", m.row.State, m.endpoint, m.group, plan.Waits(m.row))
		}
		if !m.gone && !m.round(t, 100, 0) {
			t.Fatal("it does not come to rest")
		}
	})
}
