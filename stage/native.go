package stage

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	streams "github.com/reugn/go-streams"
)

// Through sends a stream through native go-streams flows, one after the other,
// and types what comes out: an element that is no Out is an [ErrType]. The flows
// must be new and not be connected to anything.
//
// The library's limits hold inside: its flows know no context and no errors, a
// panic in one of their functions or an In that is not what the first of them
// expects ends the process, and what a flow filters out is not released.
func Through[In, Out any](g *Group, in Stream[In], flows ...streams.Flow) Stream[Out] {
	name := in.name() + "/through"
	src, out := take(g, name, in), newEdge[Out](g, name, 0)
	if len(flows) == 0 {
		g.run(name, 1, func(context.Context, int) error {
			for v := range src.all {
				if err := receive(any(v), out); err != nil {
					return err
				}
			}
			return nil
		}, out.finish, src)
		return Stream[Out]{out}
	}
	if err := g.guard(name, func() error {
		for i, f := range flows[1:] {
			flows[i].Via(f)
		}
		return nil
	}); err != nil {
		g.fail(name, err)
	}
	ended := make(chan struct{})
	feed(g, name, src, flows[0], ended, func() {})
	last := flows[len(flows)-1]
	collect(g, name, last, out, sync.OnceFunc(func() {
		close(ended)
		src.stop()
	}))
	return Stream[Out]{out}
}

// FromSource is the stage of a native source. An element that is no T is an
// [ErrType]. After a failure, and where the receiver has stopped, the elements
// that still come are dropped until the source closes its outlet; so one that
// does not end by itself must be made to end, with the group's context. Native
// sources report no errors: one that cannot read on looks as if it had ended.
func FromSource[T any](g *Group, name string, src streams.Source) Stream[T] {
	out := newEdge[T](g, name, 0)
	collect(g, name, src, out, func() {})
	return Stream[T]{out}
}

// To sends a stream to a native sink and, at its end, waits for the sink to
// complete. A native sink cannot tell a stream that ended from one that a
// failure cut short; only [Group.Wait] can.
func To[T any](g *Group, in Stream[T], sink streams.Sink) {
	name := in.name() + "/sink"
	feed(g, name, take(g, name, in), sink, nil, sink.AwaitCompletion)
}

// feed moves the values of src into to until they or ended end, then closes to
// and calls await.
func feed[T any](g *Group, name string, src *edge[T], to streams.Inlet, ended <-chan struct{}, await func()) {
	g.run(name, 1, func(ctx context.Context, _ int) error {
		in := to.In()
		for v := range src.all {
			select {
			case in <- v:
			case <-ended:
				drop(v)
				return nil
			case <-ctx.Done():
				drop(v)
				return nil
			}
		}
		return nil
	}, func() {
		close(to.In())
		await()
	}, src)
}

// collect moves the elements of from into out, and drains from in any case.
// stop says that no more is wanted.
func collect[T any](g *Group, name string, from streams.Outlet, out *edge[T], stop func()) {
	g.run(name, 1, func(context.Context, int) error {
		for e := range from.Out() {
			if err := receive(e, out); err != nil {
				return err
			}
		}
		return nil
	}, out.finish, native{from, stop})
}

// native is a native component as a stage's input.
type native struct {
	from streams.Outlet
	end  func()
}

func (n native) stop() { n.end() }

func (n native) drain() {
	for e := range n.from.Out() {
		drop(e)
	}
}

// receive sends an element of a native channel on as a T.
func receive[T any](e any, out *edge[T]) error {
	v, ok := e.(T)
	if !ok && (e != nil || reflect.TypeFor[T]().Kind() != reflect.Interface) {
		drop(e)
		return fmt.Errorf("%w: got %T, want %s", ErrType, e, reflect.TypeFor[T]())
	}
	return out.send(v)
}

// AsSource makes a stream a native source. Something must read it to its end:
// until then, or until the context ends, Wait waits.
func AsSource[T any](g *Group, s Stream[T]) streams.Source {
	return newOutlet(g, s)
}

// AsFlow makes stages a native flow: build is called once, at once, with the
// stream of what is sent to the flow, and what it returns comes out of it. An
// element that is no In is an [ErrType]. What sends to the flow must close it,
// also after a failure: until then its elements are dropped.
func AsFlow[In, Out any](g *Group, name string, build func(g *Group, in Stream[In]) Stream[Out]) streams.Flow {
	in, s := newInlet[In](g, name)
	return struct {
		*inlet
		*outlet[Out]
	}{in, newOutlet(g, build(g, s))}
}

// AsSink makes stages a native sink, as [AsFlow] does. AwaitCompletion waits
// until all stages that build added to the group it was given have ended; it
// must not be called by one of them.
func AsSink[T any](g *Group, name string, build func(g *Group, in Stream[T])) streams.Sink {
	g = &Group{core: g.core, scope: new(sync.WaitGroup)}
	in, s := newInlet[T](g, name)
	build(g, s)
	return struct {
		*inlet
		await
	}{in, g.scope.Wait}
}

// await is the half of a native sink beside its inlet.
type await func()

// AwaitCompletion waits for the sink's stages.
func (a await) AwaitCompletion() { a() }

// outlet is the native end of a stream.
type outlet[T any] struct {
	g    *Group
	name string
	ch   chan any
}

func newOutlet[T any](g *Group, s Stream[T]) *outlet[T] {
	o := &outlet[T]{g: g, name: s.name() + "/outlet", ch: make(chan any)}
	src := take(g, o.name, s)
	g.run(o.name, 1, func(ctx context.Context, _ int) error {
		for v := range src.all {
			select {
			case o.ch <- v:
			case <-ctx.Done():
				drop(v)
				return nil
			}
		}
		return nil
	}, func() { close(o.ch) }, src)
	return o
}

// Out returns the channel of the stream's values.
func (o *outlet[T]) Out() <-chan any { return o.ch }

// Via sends the values to f from now on and returns f.
func (o *outlet[T]) Via(f streams.Flow) streams.Flow {
	o.g.start(func() error {
		return o.g.call(o.name, func() { o.transmit(f) })
	})
	return f
}

// To sends the values to sink and waits until it has completed.
func (o *outlet[T]) To(sink streams.Sink) {
	o.transmit(sink)
	sink.AwaitCompletion()
}

func (o *outlet[T]) transmit(to streams.Inlet) {
	in := to.In()
	defer close(in)
	for e := range o.ch {
		select {
		case in <- e:
		case <-o.g.ctx.Done():
			drop(e)
		}
	}
}

// inlet is the native beginning of a stream. Native senders know no context, so
// what they send is taken until they close the channel. They first ask for the
// channel at any time: one that asks after the stage gave up is served too.
type inlet struct {
	ch        chan any
	done      <-chan struct{} // of the group's context
	once      sync.Once
	mu        sync.Mutex
	connected bool
	gone      bool
}

func newInlet[T any](g *Group, name string) (*inlet, Stream[T]) {
	i, out := &inlet{ch: make(chan any), done: g.ctx.Done()}, newEdge[T](g, name, 0)
	g.run(name, 1, func(context.Context, int) error {
		for {
			select {
			case e, ok := <-i.ch:
				if !ok {
					return nil
				}
				if err := receive(e, out); err != nil {
					return err
				}
			case <-i.done:
				return nil
			}
		}
	}, out.finish, i)
	return i, Stream[T]{out}
}

// In returns the channel to send to, which the sender closes.
func (i *inlet) In() chan<- any {
	i.once.Do(func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.connected = true
		if i.gone {
			go i.drop()
		}
	})
	return i.ch
}

// stop does nothing: a native sender cannot be told.
func (i *inlet) stop() {}

// drain takes what is still sent; it ends early if nobody ever asked for the
// channel and the context has ended.
func (i *inlet) drain() {
	for {
		select {
		case e, ok := <-i.ch:
			if !ok {
				return
			}
			drop(e)
		case <-i.done:
			i.mu.Lock()
			i.gone = !i.connected
			gone := i.gone
			i.mu.Unlock()
			if !gone {
				i.drop()
			}
			return
		}
	}
}

func (i *inlet) drop() {
	for e := range i.ch {
		drop(e)
	}
}
