// Package stage composes typed channel stages into graphs that one errgroup
// runs, and mixes them with components of go-streams.
//
//	g, _ := stage.NewGroup(ctx)
//	rows := stage.From(g, "rows", source)
//	vectors := stage.OrderedMap(g, stage.Batch(g, rows, 32), "encode", 4, encode)
//	stage.Each(g, vectors, "store", store)
//	err := g.Wait()
//
// A stage takes streams and returns streams, so that types that do not fit do
// not compile. Each [Stream] is to be consumed by one stage. Stages run from the
// moment they are added, without buffers, so little happens before the graph is
// complete; then [Group.Wait] must be called, also when building it was given
// up. Adding a stage never fails and never panics for a bad argument: Wait
// returns the error.
//
// # Order
//
// An ordered stage sends on in the order it receives: [From], [Process] with one
// goroutine, [OrderedMap], [OrderedWorkers], [Batch], [Unbatch], [Tee],
// [Concat], [Prefetch]. [Map] and [Merge] are unordered.
//
// # Back-pressure
//
// Edges are unbuffered: a stage offers one value and does nothing else until it
// is taken. Only [Prefetch] buffers. How many values a stage holds is said at
// each; where nothing is said, it is the one that it works at or offers.
//
// # Errors
//
// The first error of any stage ends the context of the group, and so every
// stage. Wait returns it as an [*Error] with the stage's name, never the
// context.Canceled that it causes elsewhere. Where the caller's context ends
// first, Wait returns its cause. A panic in a function given to a stage is a
// [*PanicError] of that stage.
//
// A stage's outputs are closed only after what failed has ended the context. So
// a function whose input has ended has seen all of it if ctx.Err() is nil, and
// must check that before it commits to anything.
//
// A stage that returns before its input has ended, without an error or with
// [ErrStopped], is content with less. The stages before it learn that with the
// next value they send: emit returns ErrStopped, and when they return it they
// end quietly too, back to the source. Nothing that was dropped so is an error.
//
// # Ownership
//
// A value that is sent on belongs to its receiver. A function that is given a
// value owns it and must pass it on or release it, also when it returns an error
// or panics. A value that a stage must drop, because something failed, is
// released: if it, or its address, has a Release method ([Releaser]), and if it
// is a slice or an array, each element for which this holds. That includes what
// is in buffers, in the hands of stages that are blocked, and in native flows.
// When Wait has returned no goroutine is left and all dropped values are
// released. It can return only when the functions given to stages do: they must
// end with their context.
//
// # go-streams
//
// [Through], [FromSource] and [To] put native flows, sources and sinks into a
// graph; [AsSource], [AsFlow] and [AsSink] put stages into a native one. A value
// of the wrong type is an [ErrType]. Native components know no errors and no
// context, and cannot be left alone: their outlets are read to the end after a
// failure, too, and Wait waits for that. Whoever sends to an adapter must close
// its inlet, and an adapter's end that is never connected waits for the context.
// A flow of the library that filters does not release what it drops.
//
// # Cost
//
// A value costs about a microsecond for each stage, two for an ordered map, most
// of it goroutines changing turns, and allocates nothing; [Tee] allocates for
// each branch after the first, and the adapters for each value that is no
// pointer. So send batches.
package stage
