package platformfile

import (
	"fmt"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/strictyaml"
)

// Parse reads a platform file. Name is what its errors call the file. Every
// problem in the file is in the returned [*strictyaml.Error]; the rules of the
// domain are looked at only once the file is well formed.
func Parse(name string, b []byte) (*postern.Platform, error) {
	var p postern.Platform
	doc, err := strictyaml.Decode(name, b, &p, strictyaml.Options{
		Kind:  "platform file",
		Start: "start from the built-in platform: postern platform show immuta",
	})
	if err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, doc.Locate(err)
	}
	return &p, nil
}

// Marshal writes a platform as a file that [Parse] reads back to an equal one.
func Marshal(p *postern.Platform) ([]byte, error) {
	b, err := strictyaml.Encode(p)
	if err != nil {
		return nil, fmt.Errorf("platform %s: %w", p.Name, err)
	}
	return b, nil
}
