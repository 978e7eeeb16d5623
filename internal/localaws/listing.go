package localaws

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

// field tells the values of a thing that a filter compares with.
type field[T any] func(T) []string

// filtered keeps what matches every Filter.N: one of its values equals one of
// the thing's, where * and ? are wild. A filter that the action does not have
// is an error. tags may be nil.
func filtered[T any](c *call, all []T, fields map[string]field[T], tags func(T) map[string]string) ([]T, error) {
	out := slices.Clone(all)
	for _, f := range c.form.Structs("Filter") {
		name, values := f.String("Name"), f.List("Value")
		get := fields[name]
		if get == nil && tags != nil {
			get = tagField(name, tags)
		}
		if get == nil {
			return nil, fail("InvalidFilter", "The filter '%s' is invalid", name)
		}
		if len(values) == 0 {
			return nil, fail("InvalidParameterValue", "The filter '%s' has no value", name)
		}
		out = slices.DeleteFunc(out, func(t T) bool {
			return !slices.ContainsFunc(get(t), func(have string) bool {
				return slices.ContainsFunc(values, func(pattern string) bool { return matches(pattern, have) })
			})
		})
	}
	return out, nil
}

func tagField[T any](name string, tags func(T) map[string]string) field[T] {
	key, ok := strings.CutPrefix(name, "tag:")
	switch {
	case ok:
		return func(t T) []string {
			if v, ok := tags(t)[key]; ok {
				return []string{v}
			}
			return nil
		}
	case name == "tag-key":
		return func(t T) []string {
			var keys []string
			for k := range tags(t) {
				keys = append(keys, k)
			}
			return keys
		}
	}
	return nil
}

// matches compares a value with a pattern in which * is any text, ? any
// character and \ takes the next one as it is.
func matches(pattern, value string) bool {
	p, v := 0, 0
	star, mark := -1, 0
	for v < len(value) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, v
			p++
			continue
		case p < len(pattern) && pattern[p] == '?':
			p++
			v++
			continue
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == value[v]:
			p += 2
			v++
			continue
		case p < len(pattern) && pattern[p] == value[v]:
			p++
			v++
			continue
		case star >= 0:
			mark++
			p, v = star+1, mark
			continue
		}
		return false
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// Limits of MaxResults, as the EC2 API reference gives them.
const (
	minPage = 5
	maxPage = 1000
)

type position struct {
	Query string `json:"q"` // digest of what is listed
	After string `json:"a"` // key of the last one that was given
}

// paged sorts by key and cuts a page out, by MaxResults and NextToken. A token
// remembers the key, not the number, of the last one: things that come and go
// between the pages neither hide others nor repeat them.
func paged[T any](c *call, all []T, key func(T) string) (page []T, next string, err error) {
	all = slices.SortedFunc(slices.Values(all), func(a, b T) int { return strings.Compare(key(a), key(b)) })
	size, given, err := c.form.Int("MaxResults")
	switch {
	case err != nil:
		return nil, "", err
	case !given:
		size = maxPage
	case size < minPage:
		return nil, "", fail("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value greater than or equal to %d.", size, minPage)
	}
	size = min(size, maxPage)
	query := c.form.Digest("NextToken", "MaxResults", "DryRun")
	if token, ok := c.form.Lookup("NextToken"); ok && token != "" {
		at, ok := openToken(token)
		if !ok || at.Query != query {
			return nil, "", fail("InvalidNextToken", "The token '%s' is invalid", token)
		}
		all = slices.DeleteFunc(all, func(t T) bool { return key(t) <= at.After })
	}
	if len(all) <= size {
		return all, "", nil
	}
	return all[:size], sealToken(position{Query: query, After: key(all[size-1])}), nil
}

// tokenCheck guards tokens against being made up or cut, not against malice.
const tokenCheck = 8

func sealToken(p position) string {
	data, _ := json.Marshal(p) // two strings
	sum := sha256.Sum256(data)
	return base64.RawURLEncoding.EncodeToString(append(sum[:tokenCheck:tokenCheck], data...))
}

func openToken(token string) (position, bool) {
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(data) < tokenCheck {
		return position{}, false
	}
	sum := sha256.Sum256(data[tokenCheck:])
	var p position
	if string(sum[:tokenCheck]) != string(data[:tokenCheck]) || json.Unmarshal(data[tokenCheck:], &p) != nil {
		return position{}, false
	}
	return p, true
}

// only keeps the things with the IDs that the call names, all of which must
// exist; a call that names none means all.
func only[T any](ids []string, all []T, id func(T) string, absent func(string) *apiError) ([]T, error) {
	if len(ids) == 0 {
		return all, nil
	}
	var out []T
	for _, want := range ids {
		i := slices.IndexFunc(all, func(t T) bool { return id(t) == want })
		if i < 0 {
			return nil, absent(want)
		}
		out = append(out, all[i])
	}
	return out, nil
}

func yesNo(b bool) []string {
	if b {
		return []string{"true"}
	}
	return []string{"false"}
}

func one(v string) []string { return []string{v} }
