// A client in Go (franz-go) against a running broker: client ADDRESS TOPIC GROUP. Prints "ok", or what went wrong.
//
// franz-go speaks the newest version of each API that both sides know, is idempotent by default, and brings compressors of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const perCodec = 500

func fail(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(1)
}

func check(what string, err error) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func main() {
	address, topic, group := os.Args[1], os.Args[2], os.Args[3]
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	total := perCodec * len(codecs)

	plain, err := kgo.NewClient(kgo.SeedBrokers(address))
	check("client", err)
	admin := kadm.NewClient(plain)
	created, err := admin.CreateTopic(ctx, 4, 1, nil, topic)
	check("create topic", err)
	check("create topic", created.Err)

	for name, codec := range codecs {
		producer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec))
		check("producer", err)
		var records []*kgo.Record
		for n := range perCodec {
			value := fmt.Sprintf("%s %d %0100d", name, n, n)
			records = append(records, &kgo.Record{
				Key: []byte(fmt.Sprint(n)), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte(name)}},
			})
		}
		check("produce "+name, producer.ProduceSync(ctx, records...).FirstErr())
		producer.Close()
	}

	offsets, err := admin.ListEndOffsets(ctx, topic)
	check("list offsets", err)
	end := int64(0)
	offsets.Each(func(o kadm.ListedOffset) { end += o.Offset })
	if end != int64(total) {
		fail("end offsets add up to %d, expected %d", end, total)
	}

	seen := map[string]int{}
	read := func(want int) {
		consumer, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		check("consumer", err)
		for got := 0; got < want; {
			fetches := consumer.PollRecords(ctx, 300)
			check("poll", fetches.Err())
			fetches.EachRecord(func(r *kgo.Record) {
				seen[string(r.Value)]++
				got++
				if len(r.Headers) != 1 || string(r.Headers[0].Value) != string(r.Value[:len(r.Headers[0].Value)]) {
					fail("headers %v of %s", r.Headers, r.Value)
				}
			})
			check("commit", consumer.CommitUncommittedOffsets(ctx))
		}
		consumer.Close()
	}
	read(total)
	check("produce more", plain.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("last"), Headers: []kgo.RecordHeader{{Value: []byte("last")}}}).FirstErr())
	read(1)
	if len(seen) != total+1 {
		fail("%d different records seen, expected %d", len(seen), total+1)
	}
	for value, times := range seen {
		if times != 1 {
			fail("%q was seen %d times", value, times)
		}
	}

	described, err := admin.DescribeGroups(ctx, group)
	check("describe group", err)
	if state := described[group].State; state != "Empty" {
		fail("the group is %q, expected Empty", state)
	}
	committed, err := admin.FetchOffsets(ctx, group)
	check("fetch offsets", err)
	at := int64(0)
	committed.Each(func(o kadm.OffsetResponse) { at += o.At })
	if at != int64(total)+1 {
		fail("committed offsets add up to %d, expected %d", at, total+1)
	}
	_, err = admin.DeleteGroup(ctx, group)
	check("delete group", err)
	_, err = admin.DeleteTopic(ctx, topic)
	check("delete topic", err)
	fmt.Println("ok")
}
