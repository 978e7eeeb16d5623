package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func TestEvents(t *testing.T) {
	s := open(t)
	want := postern.Event{Seq: 1, At: noon, Actor: "a", Action: "b", Kind: "c", Subject: "d", Organization: "globex", Message: "f"}
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AppendEvent(want), tx.AppendEvent(postern.Event{At: noon, Action: "x", Organization: "example-corp"}), tx.AppendEvent(want))
	})
	list := func(organization string, after int64, limit int) (seqs []int64) {
		view(t, s, func(tx *store.Tx) error {
			es, err := tx.ListEvents(organization, after, limit)
			for _, e := range es {
				seqs = append(seqs, e.Seq)
			}
			if len(es) > 0 && es[0].Seq == 1 {
				if diff := cmp.Diff(want, es[0]); diff != "" {
					t.Error(diff)
				}
			}
			return err
		})
		return seqs
	}
	for _, c := range []struct {
		organization string
		after        int64
		limit        int
		want         []int64
	}{
		{"", 0, 10, []int64{1, 2, 3}},
		{"", 1, 1, []int64{2}},
		{"globex", 1, 10, []int64{3}},
		{"example-corp", 2, 10, nil},
	} {
		if diff := cmp.Diff(c.want, list(c.organization, c.after, c.limit)); diff != "" {
			t.Errorf("%+v: %s", c, diff)
		}
	}
}

func TestTokens(t *testing.T) {
	s := open(t)
	good := postern.Token{ID: "tok_1", Name: "ci", Role: postern.RoleOrgAdmin, Organization: "globex", ExpiresAt: noon.Add(time.Hour), CreatedAt: noon}
	create := func(v postern.Token, hash string) (made bool) {
		update(t, s, func(tx *store.Tx) (err error) { made, err = tx.CreateToken(v, []byte(hash)); return err })
		return made
	}
	if !create(good, "1") {
		t.Error("not made")
	}
	if create(postern.Token{ID: "tok_2", Name: "x", Role: postern.RoleAdmin}, "1") {
		t.Error("the same secret makes two tokens")
	}
	if !create(postern.Token{ID: "tok_3", Name: "for ever", Role: postern.RoleAdmin}, "3") {
		t.Error("not made")
	}
	found := func(hash string, now time.Time) (v postern.Token) {
		view(t, s, func(tx *store.Tx) (err error) {
			v, err = tx.FindTokenByHash([]byte(hash), now)
			if err != nil && postern.CodeOf(err) == postern.CodeNotFound {
				return nil
			}
			return err
		})
		return v
	}
	if diff := cmp.Diff(good, found("1", noon)); diff != "" {
		t.Error(diff)
	}
	for name, v := range map[string]postern.Token{
		"expired":            found("1", noon.Add(time.Hour)),
		"unknown":            found("2", noon),
		"empty":              found("", noon),
		"a secret, unhashed": found("tok_1", noon),
	} {
		if v.ID != "" {
			t.Errorf("%s: found %+v", name, v)
		}
	}
	if found("3", noon.AddDate(100, 0, 0)).ID != "tok_3" {
		t.Error("a token without an end expired")
	}
	update(t, s, func(tx *store.Tx) error { return tx.RevokeToken("tok_3", noon) })
	if found("3", noon).ID != "" {
		t.Error("a revoked token is good")
	}
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { return tx.RevokeToken("tok_3", noon) })
	wantCode(t, s, postern.CodeNotFound, func(tx *store.Tx) error { _, err := tx.FindToken("tok_3"); return err })
	if create(postern.Token{ID: "tok_4", Name: "bootstrap", Role: postern.RoleAdmin}, "3") {
		t.Error("a revoked secret came back to life")
	}
	view(t, s, func(tx *store.Tx) error {
		all, err := tx.ListTokens(store.Page{})
		if diff := cmp.Diff([]postern.Token{good}, all); diff != "" {
			t.Error(diff)
		}
		return err
	})
}

func TestAnswersAreKeptByKeyTokenAndRequest(t *testing.T) {
	s := open(t)
	update(t, s, func(tx *store.Tx) error { return tx.SaveAnswer("tok_1", "key", []byte("request"), `"answer"`, noon) })
	find := func(token, key, request string) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			got, err := tx.FindAnswer(token, key, []byte(request))
			if got != "" {
				return errors.Join(err, fmt.Errorf("answer %s", got))
			}
			return err
		}
	}
	if err := s.Update(t.Context(), find("tok_1", "key", "request")); err == nil || err.Error() != `answer "answer"` {
		t.Errorf("got %v", err)
	}
	update(t, s, find("tok_2", "key", "request")) // another token's key is another key
	update(t, s, find("tok_1", "other", "request"))
	wantCode(t, s, postern.CodeConflict, find("tok_1", "key", "another request"))
	update(t, s, func(tx *store.Tx) error {
		return tx.SaveAnswer("tok_1", "new", []byte("r"), `1`, noon.Add(store.AnswerLifetime+time.Second))
	})
	update(t, s, find("tok_1", "key", "request")) // too old: gone
}

func TestArrivals(t *testing.T) {
	s := open(t)
	a := postern.ArrivalCount{
		Region: "us-east-1", Listener: "private", EndpointID: "vpce-1", ServerName: "a", Denial: postern.DenyNotAuthorized,
		Organization: "globex", Count: 2, FirstSeen: noon, LastSeen: noon,
	}
	later := a
	later.Count, later.FirstSeen, later.LastSeen = 3, noon.Add(-time.Hour), noon.Add(time.Hour)
	admitted := a
	admitted.Denial = ""
	nobody := a
	nobody.Organization, nobody.Denial, nobody.LastSeen = "", postern.DenyUnknownHost, noon.Add(2*time.Hour)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.AddArrivals([]postern.ArrivalCount{a, admitted, nobody}), tx.AddArrivals([]postern.ArrivalCount{later}))
	})
	sum := later
	sum.Count = 5
	for _, c := range []struct {
		organization string
		since        time.Time
		limit        int
		want         []postern.ArrivalCount
	}{
		{"", time.Time{}, 10, []postern.ArrivalCount{nobody, sum}},
		{"globex", time.Time{}, 10, []postern.ArrivalCount{sum}},
		{"example-corp", time.Time{}, 10, nil},
		{"", noon.Add(90 * time.Minute), 10, []postern.ArrivalCount{nobody}},
		{"", time.Time{}, 1, []postern.ArrivalCount{nobody}},
	} {
		view(t, s, func(tx *store.Tx) error {
			got, err := tx.ListDenials(c.organization, c.since, c.limit)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%+v: %s", c, diff)
			}
			return err
		})
	}
}
