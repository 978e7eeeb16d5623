package localaws

import "github.com/postern-net/postern/internal/localaws/hostedzone"

// DecodeBatch reads the body of a ChangeResourceRecordSets request, for
// fuzzing.
func DecodeBatch(body []byte) (batch []hostedzone.Change, problems []string, err error) {
	c := &call{body: body}
	var in changeRecordsInput
	if err := c.decode("ChangeResourceRecordSetsRequest", &in); err != nil {
		return nil, nil, err
	}
	return in.changes()
}
