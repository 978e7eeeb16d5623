package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

// Once is the header of a write that may be sent again.
type Once struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"A new random value for every new request: the same request with the same key is done once and answered alike"`
}

// once runs a write whose answer is kept with the request's idempotency key,
// in the same transaction: a repeated request gets the first one's answer.
func once[O any](ctx context.Context, s *Server, id postern.Identity, key string, request any, fn func(*store.Tx) (O, error)) (O, error) {
	var out O
	hash, err := requestHash(request)
	if err != nil {
		return out, err
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if key == "" {
			out, err = fn(tx)
			return err
		}
		done, err := tx.FindAnswer(id.TokenID, key, hash)
		if err != nil {
			return err
		}
		if done != "" {
			return json.Unmarshal([]byte(done), &out)
		}
		if out, err = fn(tx); err != nil {
			return err
		}
		answer, err := json.Marshal(out)
		if err != nil {
			return err
		}
		return tx.SaveAnswer(id.TokenID, key, hash, string(answer), s.Now())
	})
	return out, err
}

// answered returns the kept answer of a repeated request, for writes that ask
// the cloud something before their transaction.
func answered[O any](ctx context.Context, s *Server, id postern.Identity, key string, request any) (out O, found bool, err error) {
	if key == "" {
		return out, false, nil
	}
	hash, err := requestHash(request)
	if err != nil {
		return out, false, err
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		done, err := tx.FindAnswer(id.TokenID, key, hash)
		if err != nil || done == "" {
			return err
		}
		found = true
		return json.Unmarshal([]byte(done), &out)
	})
	return out, found, err
}

func requestHash(request any) ([]byte, error) {
	b, err := json.Marshal(request)
	sum := sha256.Sum256(fmt.Appendf(nil, "%T %s", request, b))
	return sum[:], err
}

// Paging is the query of a list.
type Paging struct {
	PageSize  int    `query:"page_size" minimum:"1" maximum:"1000" default:"100" doc:"How many items at most"`
	PageToken string `query:"page_token" maxLength:"512" doc:"next_page_token of the page before"`
}

// page asks the store for one row more than fits, to know whether there is a
// next page.
func (p Paging) page() (store.Page, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(p.PageToken)
	if err != nil {
		return store.Page{}, postern.Invalid("page_token", p.PageToken, "not a page token", "use next_page_token of the page before, unchanged")
	}
	return store.Page{After: string(b), Limit: p.PageSize + 1}, nil
}

// cut makes a page of what the store answered.
func cut[R, W any](p Paging, rows []R, key func(R) string, wire func(R) W) (items []W, next string) {
	items = []W{}
	if len(rows) > p.PageSize {
		rows = rows[:p.PageSize]
		next = base64.RawURLEncoding.EncodeToString([]byte(key(rows[len(rows)-1])))
	}
	for _, r := range rows {
		items = append(items, wire(r))
	}
	return items, next
}

// IfMatch is the header of a conditional change.
type IfMatch struct {
	IfMatch string `header:"If-Match" maxLength:"64" doc:"Do it only if the resource still has this ETag"`
}

// check compares with a resource version; no header always passes.
func (m IfMatch) check(version int64) error {
	if m.IfMatch == "" || m.IfMatch == "*" || strings.Trim(strings.TrimPrefix(m.IfMatch, "W/"), `"`) == strconv.FormatInt(version, 10) {
		return nil
	}
	return &postern.Error{Code: postern.CodeConflict, Field: "If-Match", Value: m.IfMatch, Message: "the resource was changed meanwhile", Fix: "read it again and repeat the change"}
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// event records who did what.
func (s *Server) event(tx *store.Tx, id postern.Identity, action, kind, subject, organization, message string) error {
	return tx.AppendEvent(postern.Event{
		At: s.Now(), Actor: id.Name, Action: action, Kind: kind, Subject: subject, Organization: organization, Message: message,
	})
}

// secret makes 256 random bits as text.
func secret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b)
}
