// Streams, events and the last error. What is enqueued has been done when the call returns, unless
// streams are late; events matter for that, for what CUDA forbids, and for graphs.

#include "tests/simt/runtime/streams.h"

#include <algorithm>
#include <unordered_set>

#include "tests/simt/options.h"

namespace simt {

namespace {

thread_local cudaError_t last_error = cudaSuccess;
std::unordered_set<cudaStream_t> streams;
std::unordered_set<cudaEvent_t> events;

bool is_event(cudaEvent_t event) { return events.count(event) > 0; }

void merge(const Progress& from, Progress& to) {
  for (const auto& [stream, count] : from) to[stream] = std::max(to[stream], count);
}

cudaError_t make_stream(cudaStream_t* stream, unsigned flags) {
  if (!stream || flags > cudaStreamNonBlocking) return cudaErrorInvalidValue;
  streams.insert(*stream = new CUstream_st{flags});
  return cudaSuccess;
}

cudaError_t destroy(cudaStream_t stream) {
  if (stream == nullptr || !is_stream(stream)) return cudaErrorInvalidResourceHandle;
  finish(stream);
  if (stream->capture) stream->capture->is_invalidated = true;
  abandon_capture(stream);
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}

// What the event comes after, and perhaps more.
void finish_until(cudaEvent_t event) {
  if (event->stream && is_stream(event->stream)) finish(event->stream);
}

// Waits, unless that is an error.
cudaError_t finished(cudaError_t error, cudaStream_t stream) {
  if (error == cudaSuccess) finish(stream);
  return error;
}

// A stream that waits for an event of a capture records into the same capture from then on.
cudaError_t wait(cudaStream_t stream, cudaEvent_t event) {
  if (!is_stream(stream) || !is_event(event)) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = may_enqueue(stream)) return error;
  const auto invalidate = [](const std::shared_ptr<Capture>& capture, cudaError_t error) {
    return capture->is_invalidated = true, error;
  };
  const std::shared_ptr<Capture> from = event->capture;
  if (!from) {
    finish_until(event);
    if (!is_capturing(stream) || !event->is_recorded) return cudaSuccess;
    return invalidate(stream->capture, cudaErrorStreamCaptureIsolation);
  }
  if (from->is_over) return cudaErrorCapturedEvent;
  if (stream == nullptr) return invalidate(from, cudaErrorStreamCaptureImplicit);
  if (stream->capture && stream->capture != from) {
    from->is_invalidated = true;
    return invalidate(stream->capture, cudaErrorStreamCaptureMerge);
  }
  stream->capture = from;
  merge(event->progress, from->streams[stream]);
  return cudaSuccess;
}

cudaError_t record(cudaEvent_t event, cudaStream_t stream) {
  if (!is_event(event)) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = may_enqueue(stream)) return error;
  event->is_recorded = true;
  event->stream = stream;
  event->time = std::chrono::steady_clock::now();
  event->capture = stream ? stream->capture : nullptr;
  if (event->capture) event->progress = event->capture->streams[stream];
  return cudaSuccess;
}

cudaError_t may_ask(cudaEvent_t event) {
  if (!is_event(event)) return cudaErrorInvalidResourceHandle;
  if (!event->capture) return finish_until(event), cudaSuccess;
  event->capture->is_invalidated = true;
  return cudaErrorCapturedEvent;
}

cudaError_t elapsed(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  if (!milliseconds) return cudaErrorInvalidValue;
  for (const cudaEvent_t event : {from, to}) {
    if (!is_event(event) || !event->is_recorded || (event->flags & cudaEventDisableTiming))
      return cudaErrorInvalidResourceHandle;
    if (event->capture) return cudaErrorCapturedEvent;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

}  // namespace

std::recursive_mutex& host_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

cudaError_t remember(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

void do_or_put_off(cudaStream_t stream, std::function<void()> work) {
  if (stream && options().late_streams) return stream->put_off.push_back(std::move(work));
  if (stream == nullptr)  // waits for the others, but for those that ask it not to
    for (const cudaStream_t each : streams)
      if (each->flags != cudaStreamNonBlocking) finish(each);
  work();
}

void finish(cudaStream_t stream) {
  if (stream == nullptr) {
    for (const cudaStream_t each : streams) finish(each);
    return;
  }
  for (const auto& work : std::exchange(stream->put_off, {})) work();
}

bool is_stream(cudaStream_t stream) { return stream == nullptr || streams.count(stream) > 0; }

}  // namespace simt

using simt::remember;
using simt::Turn;

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Turn turn(simt::host_mutex());
  return remember(simt::make_stream(stream, flags));
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  return remember(simt::destroy(stream));
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  return remember(simt::finished(simt::may_wait_for(stream), stream));
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  return remember(simt::finished(simt::may_wait_for(stream), stream));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Turn turn(simt::host_mutex());
  return remember(simt::wait(stream, event));
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  const Turn turn(simt::host_mutex());
  if (!event || (flags & ~(cudaEventBlockingSync | cudaEventDisableTiming)))
    return remember(cudaErrorInvalidValue);
  simt::events.insert(*event = new CUevent_st{flags});
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  return remember(simt::record(event, stream));
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Turn turn(simt::host_mutex());
  return remember(simt::may_ask(event));
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Turn turn(simt::host_mutex());
  return remember(simt::may_ask(event));
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const Turn turn(simt::host_mutex());
  return remember(simt::elapsed(milliseconds, from, to));
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  const Turn turn(simt::host_mutex());
  if (simt::events.erase(event) == 0) return remember(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const Turn turn(simt::host_mutex());
  return remember(simt::finished(simt::may_wait(), nullptr));
}
cudaError_t cudaGetLastError() { return std::exchange(simt::last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return simt::last_error; }
