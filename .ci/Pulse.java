// A record each 10 ms by a Java producer with the defaults of its library; each acknowledgement is a line: milliseconds since the epoch, offset.
//
// java -cp 'kafka-4.3.1/*' .ci/Pulse.java BOOTSTRAP TOPIC [KEY=VALUE ...]

import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class Pulse {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", arguments[0]);
        for (int i = 2; i < arguments.length; i++) {
            String[] property = arguments[i].split("=", 2);
            properties.put(property[0], property[1]);
        }
        KafkaProducer<String, String> producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        Thread writer = new Thread(() -> {
            while (true) {
                producer.send(new ProducerRecord<>(arguments[1], 0, null, "pulse"), (written, error) -> {
                    System.out.println(System.currentTimeMillis() + " " + (error == null ? written.offset() : "error " + error));
                    System.out.flush();
                });
                try {
                    Thread.sleep(10);
                } catch (InterruptedException stopped) {
                    return;
                }
            }
        });
        writer.setDaemon(true);
        writer.start();
        // Until whoever started this closes the pipe.
        while (System.in.read() >= 0) { }
        writer.interrupt();
        writer.join();
        producer.close();
    }
}
