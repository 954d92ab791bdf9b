package fairlead.test;

import com.google.protobuf.ByteString;
import digits.v1.AccuracyRequest;
import digits.v1.ClassifyAllRequest;
import digits.v1.ClassifyAllResponse;
import digits.v1.ClassifyRequest;
import digits.v1.ClassifyStreamRequest;
import digits.v1.ClassifyStreamResponse;
import digits.v1.DigitsServiceGrpc;
import fairlead.v1.TensorOuterClass.DataType;
import fairlead.v1.TensorOuterClass.Tensor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * Calls the digits example by the stubs of the service that was derived from it, and prints what it was answered, as
 * tests/e2e/test_typed_clients.py expects it.
 *
 * <p>DigitsClient TARGET IMAGE ROWS COLUMNS; IMAGE is a file of pixels, little-endian floats of 32 bits.
 */
public final class DigitsClient {
  private static final int SEVERAL = 3;
  private static final long PATIENCE_S = 30;

  private final DigitsServiceGrpc.DigitsServiceBlockingStub blocking;
  private final DigitsServiceGrpc.DigitsServiceStub streaming;
  private final ByteString pixels;
  private final long rows;
  private final long columns;

  private DigitsClient(ManagedChannel channel, ByteString pixels, long rows, long columns) {
    this.blocking = DigitsServiceGrpc.newBlockingStub(channel);
    this.streaming = DigitsServiceGrpc.newStub(channel);
    this.pixels = pixels;
    this.rows = rows;
    this.columns = columns;
  }

  public static void main(String[] arguments) throws Exception {
    ByteString pixels = ByteString.copyFrom(Files.readAllBytes(Path.of(arguments[1])));
    long rows = Long.parseLong(arguments[2]);
    long columns = Long.parseLong(arguments[3]);
    ManagedChannel channel =
        Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      new DigitsClient(channel, pixels, rows, columns).run();
    } finally {
      channel.shutdownNow().awaitTermination(PATIENCE_S, TimeUnit.SECONDS);
    }
  }

  private void run() throws InterruptedException {
    unary();
    serverStream();
    bidi();
    refused();
  }

  private void unary() {
    var answer = timed().classify(ClassifyRequest.newBuilder().setImage(image()).build());
    System.out.println("classify: " + answer.getResult().getDigit());
    double accuracy = timed().accuracy(AccuracyRequest.getDefaultInstance()).getResult();
    System.out.printf("accuracy above 0.97: %b%n", accuracy > 0.97);
  }

  private void serverStream() {
    Tensor.Builder images = Tensor.newBuilder().setDataType(DataType.DATA_TYPE_FLOAT32);
    images.addShape(SEVERAL).addShape(rows).addShape(columns);
    ByteString data = ByteString.EMPTY;
    for (int each = 0; each < SEVERAL; each++) {
      data = data.concat(pixels);
    }
    var request = ClassifyAllRequest.newBuilder().setImages(images.setData(data)).build();
    Iterator<ClassifyAllResponse> answers = timed().classifyAll(request);
    while (answers.hasNext()) {
      var result = answers.next().getResult();
      System.out.printf("classify all: %d is %d%n", result.getImage(), result.getDigit());
    }
  }

  /** Sends each image only after the one before it was answered. */
  private void bidi() throws InterruptedException {
    BlockingQueue<String> observed = new LinkedBlockingQueue<>();
    StreamObserver<ClassifyStreamRequest> images =
        streaming
            .withDeadlineAfter(PATIENCE_S, TimeUnit.SECONDS)
            .classifyStream(
                new StreamObserver<ClassifyStreamResponse>() {
                  @Override
                  public void onNext(ClassifyStreamResponse answer) {
                    observed.add("classify stream: " + answer.getResult().getDigit());
                  }

                  @Override
                  public void onError(Throwable error) {
                    observed.add("classify stream: " + error);
                  }

                  @Override
                  public void onCompleted() {
                    observed.add("classify stream ends");
                  }
                });
    for (int each = 0; each < SEVERAL; each++) {
      images.onNext(ClassifyStreamRequest.newBuilder().setImages(image()).build());
      System.out.println(observed.poll(PATIENCE_S, TimeUnit.SECONDS));
    }
    images.onCompleted();
    System.out.println(observed.poll(PATIENCE_S, TimeUnit.SECONDS));
  }

  private void refused() {
    try {
      timed().classify(ClassifyRequest.newBuilder().setImage(image().toBuilder().addShape(2)).build());
    } catch (StatusRuntimeException error) {
      var status = error.getStatus();
      System.out.printf("refused with %d: %s%n", status.getCode().value(), status.getDescription());
    }
  }

  private Tensor image() {
    return Tensor.newBuilder()
        .setDataType(DataType.DATA_TYPE_FLOAT32)
        .addShape(rows)
        .addShape(columns)
        .setData(pixels)
        .build();
  }

  private DigitsServiceGrpc.DigitsServiceBlockingStub timed() {
    return blocking.withDeadlineAfter(PATIENCE_S, TimeUnit.SECONDS);
  }
}
