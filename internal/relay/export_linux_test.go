package relay

// Pipes is a loop's store of pipes, for tests.
type Pipes struct{ pipes }

// Borrow tells whether there is a pipe to be had, and gives it back.
func (p *Pipes) Borrow() bool {
	x := p.get()
	if x != nil {
		p.put(x)
	}
	return x != nil
}

// Tick is what a loop does at every tick.
func (p *Pipes) Tick() { p.trim() }

// Close closes them.
func (p *Pipes) Close() { p.close() }
