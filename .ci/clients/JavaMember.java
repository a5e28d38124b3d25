// A group member of Kafka's Java client, which tells what happens to it as JSON lines, as member.py does:
//   java -cp "$LIBS/*" JavaMember.java TOPIC KEY=VALUE...
// It commits each batch before it tells of it. SIGTERM makes it leave the group in order.

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.stream.Collectors;

import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.StringDeserializer;

public final class JavaMember {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        for (int i = 1; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            properties.put(pair[0], pair[1]);
        }
        KafkaConsumer<String, String> consumer =
            new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
        CountDownLatch left = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            consumer.wakeup();
            try {
                left.await();
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
        consumer.subscribe(List.of(arguments[0]), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                tell("assigned", partitions);
            }

            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                tell("revoked", partitions);
            }

            @Override
            public void onPartitionsLost(Collection<TopicPartition> partitions) {
                tell("lost", partitions);
            }
        });
        try {
            while (true) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                if (!records.isEmpty()) consumer.commitSync();
                records.forEach(record -> say("{\"event\": \"record\", \"partition\": " + record.partition()
                    + ", \"offset\": " + record.offset() + ", \"value\": \"" + record.value() + "\"}"));
            }
        } catch (WakeupException end) {
            consumer.close();
            say("{\"event\": \"left\"}");
        } finally {
            left.countDown();
        }
    }

    private static void tell(String event, Collection<TopicPartition> partitions) {
        String numbers = partitions.stream().map(p -> "" + p.partition()).collect(Collectors.joining(", "));
        say("{\"event\": \"" + event + "\", \"partitions\": [" + numbers + "]}");
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
