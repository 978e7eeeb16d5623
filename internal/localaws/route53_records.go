package localaws

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postern-net/postern/internal/localaws/hostedzone"
)

// recordsPerPage is the longest page of ListResourceRecordSets.
const recordsPerPage = 300

type recordSetXML struct {
	Name   string       `xml:"Name"`
	Type   string       `xml:"Type"`
	TTL    *int64       `xml:"TTL"`
	Values *recordsXML  `xml:"ResourceRecords"`
	Alias  *aliasTarget `xml:"AliasTarget"`
}

type recordsXML struct {
	Items []recordXML `xml:"ResourceRecord"`
}

type recordXML struct {
	Value string `xml:"Value"`
}

type aliasTarget struct {
	ZoneID         string `xml:"HostedZoneId"`
	Name           string `xml:"DNSName"`
	EvaluateHealth *bool  `xml:"EvaluateTargetHealth"`
}

func wireRecordSet(r hostedzone.RecordSet) recordSetXML {
	out := recordSetXML{Name: hostedzone.WireName(r.Name), Type: r.Type}
	if r.Alias != nil {
		out.Alias = &aliasTarget{ZoneID: r.Alias.ZoneID, Name: hostedzone.WireName(r.Alias.Name), EvaluateHealth: &r.Alias.EvaluateHealth}
		return out
	}
	out.TTL, out.Values = &r.TTL, &recordsXML{}
	for _, v := range r.Values {
		out.Values.Items = append(out.Values.Items, recordXML{v})
	}
	return out
}

// A change batch as it arrives.

type changeRecordsInput struct {
	Batch *batchInput `xml:"ChangeBatch"`
	unread
}

type batchInput struct {
	Comment string        `xml:"Comment"`
	Changes *changesInput `xml:"Changes"`
	unread
}

type changesInput struct {
	Items []changeInput `xml:"Change"`
	unread
}

type changeInput struct {
	Action string          `xml:"Action"`
	Set    *recordSetInput `xml:"ResourceRecordSet"`
	unread
}

// recordSetInput leaves everything that is not simple routing to unread.
type recordSetInput struct {
	Name   string        `xml:"Name"`
	Type   string        `xml:"Type"`
	TTL    *int64        `xml:"TTL"`
	Values *recordsInput `xml:"ResourceRecords"`
	Alias  *aliasInput   `xml:"AliasTarget"`
	unread
}

type recordsInput struct {
	Items []recordInput `xml:"ResourceRecord"`
	unread
}

type recordInput struct {
	recordXML
	unread
}

type aliasInput struct {
	aliasTarget
	unread
}

// changes checks the batch's form. What is wrong with names and values by
// themselves is in problems; the rest is the zone's to judge.
func (in *changeRecordsInput) changes() (batch []hostedzone.Change, problems []string, err error) {
	if in.Batch == nil || in.Batch.Changes == nil || len(in.Batch.Changes.Items) == 0 {
		return nil, nil, invalidInput("Invalid XML ; a ChangeBatch needs at least one Change")
	}
	if err := knownElements(in, in.Batch, in.Batch.Changes); err != nil {
		return nil, nil, err
	}
	if len(in.Batch.Comment) > maxComment {
		return nil, nil, invalidInput("Comment must have at most %d characters", maxComment)
	}
	for _, item := range in.Batch.Changes.Items {
		c, problem, err := item.change()
		if err != nil {
			return nil, nil, err
		}
		if problem != "" {
			problems = append(problems, problem)
		}
		batch = append(batch, c)
	}
	return batch, problems, nil
}

func (in changeInput) change() (hostedzone.Change, string, error) {
	c := hostedzone.Change{Action: hostedzone.Action(in.Action)}
	if in.Set == nil {
		return c, "", invalidInput("Invalid XML ; a Change needs a ResourceRecordSet")
	}
	if !slices.Contains([]hostedzone.Action{hostedzone.Create, hostedzone.Delete, hostedzone.Upsert}, c.Action) {
		return c, "", invalidInput("Invalid XML ; '%s' is not an Action: use CREATE, DELETE or UPSERT", in.Action)
	}
	if err := in.Set.check(in); err != nil {
		return c, "", err
	}
	name, problem := parseName(in.Set.Name)
	c.Set = hostedzone.RecordSet{Name: name, Type: in.Set.Type}
	if in.Set.Alias == nil {
		c.Set.TTL = *in.Set.TTL
		for _, v := range in.Set.Values.Items {
			c.Set.Values = append(c.Set.Values, strings.TrimSpace(v.Value))
		}
		return c, problem, nil
	}
	target, targetProblem := parseName(in.Set.Alias.Name)
	c.Set.Alias = &hostedzone.Alias{
		ZoneID: strings.TrimPrefix(in.Set.Alias.ZoneID, zoneIDPrefix), Name: target, EvaluateHealth: *in.Set.Alias.EvaluateHealth,
	}
	if problem == "" {
		problem = targetProblem
	}
	return c, problem, nil
}

func parseName(name string) (parsed, problem string) {
	parsed, err := hostedzone.ParseName(name)
	if err != nil {
		return "", fmt.Sprintf("FATAL problem: %v", err)
	}
	return parsed, ""
}

// check wants either values with a TTL or an alias, and nothing that is not
// simple routing.
func (in *recordSetInput) check(of changeInput) error {
	parts := []strict{of, in}
	if in.Values != nil {
		parts = append(parts, in.Values)
		for _, v := range in.Values.Items {
			parts = append(parts, v)
		}
	}
	if in.Alias != nil {
		parts = append(parts, in.Alias)
	}
	if len(in.Other) > 0 {
		return invalidInput("%s is not served here: a record set has simple routing and no health check", in.Other[0].XMLName.Local)
	}
	if err := knownElements(parts...); err != nil {
		return err
	}
	values := in.Values != nil && len(in.Values.Items) > 0
	found := ""
	switch {
	case in.Alias == nil && in.TTL == nil && !values:
		found = "none"
	case in.Alias != nil && (in.TTL != nil || values):
		found = "more than one"
	case in.Alias == nil && (in.TTL == nil || !values):
		found = "only a part"
	}
	if found != "" {
		return invalidInput("Invalid request: Expected exactly one of [AliasTarget, all of [TTL, and ResourceRecords], or TrafficPolicyInstanceId], but found %s in Change with [Action=%s, Name=%s, Type=%s, SetIdentifier=null]", found, of.Action, in.Name, in.Type)
	}
	if in.Alias != nil && in.Alias.EvaluateHealth == nil {
		return invalidInput("Invalid XML ; an AliasTarget needs EvaluateTargetHealth")
	}
	return nil
}

func (s *Server) changeRecords(c *call) (replier, error) {
	if _, err := s.state.Load().ownZone(c); err != nil {
		return nil, err
	}
	var in changeRecordsInput
	if err := c.decode("ChangeResourceRecordSetsRequest", &in); err != nil {
		return nil, err
	}
	batch, problems, err := in.changes()
	if err != nil {
		return nil, err
	}
	if len(problems) > 0 {
		return nil, invalidBatch(problems)
	}
	out := &changeReply{}
	return out, s.update(func(st *state) error {
		z, err := st.ownZone(c)
		if err != nil {
			return err
		}
		next, problems := z.Now.Zone.Apply(batch, func(r hostedzone.RecordSet) string { return s.aliasTarget(st, z, r) })
		if len(problems) > 0 {
			return invalidBatch(problems)
		}
		z.Now.Zone = next
		ch := st.submit(c, z, in.Batch.Comment, s.timing.Change)
		out.Info = ch.info()
		return nil
	})
}

type recordSetList struct {
	Items []recordSetXML `xml:"ResourceRecordSet"`
}

type listRecordsReply struct {
	route53Reply
	Sets      recordSetList `xml:"ResourceRecordSets"`
	Truncated bool          `xml:"IsTruncated"`
	NextName  string        `xml:"NextRecordName,omitempty"`
	NextType  string        `xml:"NextRecordType,omitempty"`
	MaxItems  int           `xml:"MaxItems"`
}

// listRecords begins at a name and, at that name, a type. Changes that are
// PENDING are in the list.
func (s *Server) listRecords(c *call) (replier, error) {
	z, err := s.state.Load().ownZone(c)
	if err != nil {
		return nil, err
	}
	n, err := c.maxItems("maxitems", recordsPerPage)
	if err != nil {
		return nil, err
	}
	from := hostedzone.RecordSet{Type: c.query.Get("type")}
	switch name := c.query.Get("name"); {
	case name != "":
		if from.Name, err = hostedzone.ParseName(name); err != nil {
			return nil, invalidInput("FATAL problem: %v", err)
		}
	case from.Type != "":
		return nil, invalidInput("Specifying a type without specifying a name is not valid")
	}
	sets := z.Now.Zone.Records
	if from.Name != "" {
		sets = z.Now.Zone.From(from)
	}
	out := &listRecordsReply{MaxItems: n}
	if len(sets) > n {
		out.Truncated, out.NextName, out.NextType, sets = true, hostedzone.WireName(sets[n].Name), sets[n].Type, sets[:n]
	}
	for _, r := range sets {
		out.Sets.Items = append(out.Sets.Items, wireRecordSet(r))
	}
	return out, nil
}
