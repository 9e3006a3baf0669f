#include "cli/processes.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <thread>

#include "cli/interrupt.h"
#include "engine/error.h"

namespace moat::cli {

using engine::require;
using engine::text;

namespace {

struct Child {
  size_t job;
  pid_t pid;
  int message;  // end of a pipe: what a job that fails says
};

// In the child: never returns.
[[noreturn]] void run_and_exit(const Job& job, int message) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // a parent that is killed leaves no job behind
  std::string error;
  try {
    job.run();
  } catch (const std::exception& e) {
    error = e.what();
    error.resize(std::min<size_t>(error.size(), 4096));  // what a pipe takes without a reader
  }
  const bool said = write(message, error.data(), error.size()) == ssize_t(error.size());
  std::_Exit(error.empty() && said ? 0 : 1);  // the parent's buffers are the parent's to write
}

Child start(const std::vector<Job>& jobs, size_t job) {
  int ends[2];
  require(pipe(ends) == 0, [] { return text("cannot make a pipe: ", std::strerror(errno)); });
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    run_and_exit(jobs[job], ends[1]);
  }
  const int error = errno;
  close(ends[1]);
  if (pid < 0) close(ends[0]);
  require(pid > 0, [&] { return text("cannot start a process: ", std::strerror(error)); });
  return {job, pid, ends[0]};
}

// "" for a job that is done, else why it is not.
std::string outcome(const Child& child, int status) {
  std::string said;
  char bytes[512];
  for (ssize_t n; (n = read(child.message, bytes, sizeof bytes)) > 0;)
    said.append(bytes, size_t(n));
  close(child.message);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return "";
  if (WIFSIGNALED(status)) return text("ended by signal ", WTERMSIG(status));
  return said.empty() ? "failed" : said;
}

}  // namespace

void run_in_processes(const std::vector<Job>& jobs, int at_once,
                      const std::function<void(size_t)>& ended) {
  enum class State { waits, runs, done };
  std::vector<State> states(jobs.size(), State::waits);
  std::vector<Child> running;
  std::string failure;
  size_t done = 0;
  bool told = false;
  const auto is_ready = [&](size_t j) {
    return states[j] == State::waits &&
           std::all_of(jobs[j].after.begin(), jobs[j].after.end(),
                       [&](size_t before) { return states[before] == State::done; });
  };
  while (true) {
    const bool stops = is_interrupted() || !failure.empty();
    for (size_t j = 0; j < jobs.size() && !stops && running.size() < size_t(at_once); ++j)
      if (is_ready(j)) {
        running.push_back(start(jobs, j));
        states[j] = State::runs;
      }
    if (running.empty()) break;
    if (stops && !told) {
      for (const Child& child : running) kill(child.pid, SIGTERM);
      told = true;
    }
    std::erase_if(running, [&](const Child& child) {
      int status = 0;
      if (waitpid(child.pid, &status, WNOHANG) != child.pid) return false;
      const std::string error = outcome(child, status);
      states[child.job] = State::done;
      if (!error.empty() && failure.empty()) failure = text(jobs[child.job].name, ": ", error);
      if (error.empty()) ended(++done);
      return true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  require(failure.empty(), failure);
  require(done == jobs.size(), "stopped; the same command goes on from there");
}

}  // namespace moat::cli
