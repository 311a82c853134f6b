// Package flight serves the splits of a filled cache over Arrow Flight, so
// that processes in any language train on the batches that a replay gives.
//
//	srv, err := flight.New(flight.Options{Splits: tables, Token: token})
//	err = srv.Serve(ctx, listener) // until ctx ends
//
// # Protocol
//
// ListFlights gives a flight for every split. GetFlightInfo and GetSchema take
// a descriptor of a path, which is the name of a split, or of a command, which
// is a [Ticket] as JSON; the answer's one endpoint holds the whole ticket.
// DoGet takes a ticket, which need not come from the server, and gives the
// batches of one rank of one epoch in order, each with its number as
// app_metadata:
//
//	{"split": "train", "epoch": 3, "shuffle": true, "seed": 42, "batch_size": 256}
//
// gives the batches, and the metadata {"batch":0}, {"batch":1}, ... A ticket
// with "first_batch": 7 gives the same from batch 7 on. Nothing can be put.
//
// A batch is sent when the client has taken the one before: a slow client
// holds back its own stream only. A stream holds a batch up to five times: as
// gathered, as an Arrow message whose buffer grows by doubling, as a gRPC
// message, and what the connection has buffered.
//
// # Errors
//
// A bad ticket is INVALID_ARGUMENT, a split or column that is not there
// NOT_FOUND, a missing or wrong token UNAUTHENTICATED, a limit
// RESOURCE_EXHAUSTED, a server that is stopping UNAVAILABLE; Options.Code says
// what the errors of a table are.
package flight
