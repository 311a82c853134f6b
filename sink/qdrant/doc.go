// Package qdrant uploads record batches to a collection of the vector
// database Qdrant, over its HTTP API.
//
//	c, err := qdrant.Open(ctx, qdrant.Options{URL: "http://127.0.0.1:6333", Collection: "texts", Dim: 384})
//	qdrant.Upload(g, recs, c, nil)
//	err = g.Wait()
//
// Every row is a point: its vector is a column of embeddings, its payload all
// columns but that one, by name, with binary values in hexadecimal and without
// nulls. Its id is a UUID made of the first bytes of the object's id, so that
// uploading an object again, in whole or in part, by whomever, changes nothing;
// rows of one object are one point, with the payload of the last.
//
// A request that fails for the moment (the connection, a timeout, 408, 429,
// 500, 502, 503, 504) is sent again, after waits that double; since points have
// fixed ids, one that has taken effect unseen does no harm. When Upsert returns
// nil, the server has stored the points.
package qdrant
