package plan

import (
	"slices"
	"time"

	"github.com/postern-net/postern"
)

// LookRules say how egress nodes look at clusters.
type LookRules struct {
	Every time.Duration // after a look at a cluster the next one of the same node
	Soon  time.Duration // the same, until the cluster was found good
	// Lifetime is for how long a look counts. What nobody looked at since is not
	// known to be good.
	Lifetime time.Duration
}

// CheckView is what the egress of a connection's region found when it looked at
// the cluster through the endpoint.
type CheckView struct {
	Nodes int                      // that are or may be the region's egress, and are not fenced
	Looks []postern.ConnectionLook // the last one of each of them, by node
	Never bool                     // no node ever told of one, be it one of them or not
	// Since is when looks began to be taken: for a while before, nobody could
	// report any.
	Since time.Time
}

// CompileChecks makes what the egress nodes look at: the clusters to which AWS
// carries an endpoint's traffic, whether or not they are ready.
func CompileChecks(p *postern.Platform, d Desired, r LookRules) map[string]postern.ConnectionCheck {
	var out map[string]postern.ConnectionCheck
	accounts := by(d.Accounts, accountsOrganization)
	for _, c := range d.Connections {
		check, ok := connectionCheck(c)
		_, here := p.OutboundNetwork(c.Region)
		if !ok || !here || c.Removing || c.ProvenAt.IsZero() || !slices.Contains(provenAccounts(accounts[c.Organization], c.Organization), c.ServiceOwner) {
			continue
		}
		check.Every, check.Asked = r.Every, c.VerifyAsked
		if c.State == postern.DataConnectionVerifying {
			check.Every = r.Soon
		}
		if out == nil {
			out = map[string]postern.ConnectionCheck{}
		}
		out[c.ID] = check
	}
	return out
}

// connectionCheck is what there is to look at of a connection; false: nothing
// yet, or no more.
func connectionCheck(c postern.DataConnection) (postern.ConnectionCheck, bool) {
	if c.EndpointID == "" || len(c.Addresses) == 0 || status(c, postern.Connected) == postern.False {
		return postern.ConnectionCheck{}, false
	}
	return postern.ConnectionCheck{Kind: c.Kind, Hostname: c.Hostname, Region: c.Region, Ports: slices.Clone(c.Ports), Addresses: slices.Clone(c.Addresses)}, true
}

// Looked tells whether there is something that egress nodes look at, and when
// one began the last look at what the connection is now.
func Looked(c postern.DataConnection, looks []postern.ConnectionLook) (at time.Time, ok bool) {
	check, ok := connectionCheck(c)
	if !ok {
		return at, false
	}
	sum := check.Sum()
	for _, l := range looks {
		if l.Of != sum {
			continue
		}
		if l.At.After(at) {
			at = l.At
		}
		// It began after it was asked for, whatever the node's clock says.
		if l.Asked.Equal(c.VerifyAsked) && l.Asked.After(at) {
			at = l.Asked
		}
	}
	return at, true
}

// oldestVerdict is for how long after a look it may stand that nobody could
// report another.
const oldestVerdict = 24 * time.Hour

// verified says what the egress found. It says nothing of a cluster that the
// endpoint does not lead to. One node that finds it bad is enough to hold it,
// for workloads may use that one.
func (v ConnectionView) verified(before, c postern.DataConnection) postern.Condition {
	out := postern.Condition{Type: postern.Verified, Status: postern.Unknown, Reason: postern.ReasonNotVerified}
	if status(c, postern.Connected) == postern.False {
		out.Message = "is looked at once the endpoint is connected"
		return out
	}
	if v.Network == nil {
		out.Message = givenUp(c)
		return out
	}
	check, ok := connectionCheck(c)
	if !ok {
		out.Message = "is about to be looked at"
		return out
	}
	var fresh []postern.ConnectionLook
	sum := check.Sum()
	var newest time.Time
	for _, l := range v.Check.Looks {
		if l.Of != sum {
			continue
		}
		if l.At.After(newest) {
			newest = l.At
		}
		if v.Now.Sub(l.At) < v.Rules.Looks.Lifetime {
			fresh = append(fresh, l)
		}
	}
	if known := !newest.IsZero(); len(fresh) == 0 {
		last := postern.FindCondition(c.Conditions, postern.Verified)
		switch {
		case known && last.Status != "" && last.Status != postern.Unknown && v.Now.Sub(v.Check.Since) < v.Rules.Looks.Lifetime && v.Now.Sub(newest) < oldestVerdict:
			return last // the nodes could not say
		case v.Check.Never && last.Status == postern.True && slices.Equal(before.Addresses, c.Addresses) && v.Now.Sub(c.CheckedAt) < v.Rules.Looks.Lifetime:
			return last // it was looked at by a control plane that did so itself, before this version
		case v.Check.Nodes == 0:
			out.Message = "no egress node serves " + c.Region + ", so nobody looks at the cluster; the vendor has to run one"
		case known:
			out.Message = "no egress node in " + c.Region + " has looked at the cluster lately; the vendor has to see to them (`postern node list`)"
		default:
			out.Message = "is about to be looked at by the egress in " + c.Region
		}
		return out
	}
	return judged(fresh, out)
}

// judged sums looks up.
func judged(looks []postern.ConnectionLook, out postern.Condition) postern.Condition {
	out.Status, out.Reason, out.Message = postern.True, postern.ReasonVerified, "the cluster answers, and its certificate is good"
	warned := false
	for _, l := range looks {
		for _, f := range l.Findings {
			if !f.Warning {
				out.Status, out.Reason, out.Message = postern.False, f.Reason, f.Message
				return out
			}
			// What works today and may not tomorrow is told, one thing at a time.
			if !warned {
				warned, out.Message = true, f.Message
				if f.Reason == postern.ReasonExpiresSoon {
					out.Reason = f.Reason
				}
			}
		}
	}
	return out
}
