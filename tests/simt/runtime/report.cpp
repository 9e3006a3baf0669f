#include "tests/simt/runtime/report.h"

#include <link.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/simt/core.h"

namespace simt {

namespace {

std::vector<std::string> reports;
std::unordered_set<uint64_t> reported;

// A place that is looked up later: 1, the address in hex, 2.
constexpr char kPlaceBegins = '\x01', kPlaceEnds = '\x02';

std::string vformat(const char* format, va_list arguments) {
  char text[2048];
  vsnprintf(text, sizeof(text), format, arguments);
  return text;
}

void add(const Thread* by, std::string text) {
  if (by && text.find(thread_name(*by)) == std::string::npos)
    text += "\n    by " + thread_name(*by);
  reports.push_back(std::move(text));
}

uintptr_t load_address() {
  static const uintptr_t address = [] {
    uintptr_t found = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* out) {
          *static_cast<uintptr_t*>(out) = info->dlpi_addr;
          return 1;  // the first is the program
        },
        &found);
    return found;
  }();
  return address;
}

std::string relative(std::string file) {
  for (const char* folder : {"/tests/", "/kernels/", "/engine/", "/models/", "/attacks/", "/data/",
                             "/train/", "/cli/", "/bench/"})
    if (const size_t found = file.rfind(folder); found != std::string::npos)
      return file.substr(found + 1);
  return file;
}

struct Place {
  std::string function, where;  // where: "a.cuh:10, from b.cu:20" through inlined calls
};

// addr2line of binutils, once for all addresses; without it places stay addresses.
std::map<uintptr_t, Place> look_up(const std::vector<uintptr_t>& addresses) {
  std::map<uintptr_t, Place> places;
  std::string command = "addr2line -a -i -f -C -e /proc/" + std::to_string(getpid()) + "/exe";
  char text[4096];
  for (const uintptr_t address : addresses) {
    snprintf(text, sizeof(text), "0x%zx", static_cast<size_t>(address));
    places[address].where = std::string("code at ") + text;
    snprintf(text, sizeof(text), " 0x%zx", static_cast<size_t>(address - load_address()));
    command += text;
  }
  command += " 2>/dev/null";
  FILE* pipe = addresses.empty() ? nullptr : popen(command.c_str(), "r");
  if (!pipe) return places;
  Place* place = nullptr;
  bool is_function = true, first = true;
  while (fgets(text, sizeof(text), pipe)) {
    std::string line(text, strcspn(text, "\n"));
    if (line.rfind("0x", 0) == 0 && line.find(' ') == std::string::npos) {
      place = &places[std::strtoull(line.c_str(), nullptr, 16) + load_address()];
      is_function = first = true;
    } else if (is_function) {
      if (place && line != "??") place->function = line;  // the outermost, in the end
      is_function = false;
    } else {
      is_function = true;
      line = relative(line.substr(0, line.find(" (discriminator")));
      if (!place || line.rfind("??", 0) == 0 || line.find("tests/simt/device/") == 0 ||
          line.find("tests/simt/ptx.h") == 0)
        continue;
      place->where = first ? line : place->where + ", from " + line;
      first = false;
    }
  }
  pclose(pipe);
  return places;
}

std::string kernel_name(const std::string& function) {
  std::string name = function;
  for (const char* prefix : {"void ", "moat::kernels::", "(anonymous namespace)::"})
    for (size_t found; (found = name.find(prefix)) != std::string::npos;)
      name.erase(found, std::strlen(prefix));
  return name.substr(0, name.rfind('('));
}

// The text with every place looked up, under the name of the kernel, if there is one.
std::string resolve(const std::string& all, uintptr_t kernel) {
  std::vector<uintptr_t> addresses;
  for (size_t i = all.find(kPlaceBegins); i != std::string::npos; i = all.find(kPlaceBegins, i + 1))
    addresses.push_back(std::strtoull(all.c_str() + i + 1, nullptr, 16));
  if (kernel) addresses.push_back(kernel);
  const std::map<uintptr_t, Place> places = look_up(addresses);
  std::string text;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i] != kPlaceBegins) {
      text += all[i];
      continue;
    }
    text += places.at(std::strtoull(all.c_str() + i + 1, nullptr, 16)).where;
    i = all.find(kPlaceEnds, i);
  }
  if (!kernel) return text;
  const Place& place = places.at(kernel);
  return "kernel " + (place.function.empty() ? place.where : kernel_name(place.function)) + ":\n" +
         text;
}

}  // namespace

std::string at(Where where) {
  return " at " + relative(where.file) + ":" + std::to_string(where.line);
}

std::string at(uintptr_t code) {
  if (code == 0) return "";
  char text[32];
  // The call is before its return address.
  snprintf(text, sizeof(text), "%c%zx%c", kPlaceBegins, static_cast<size_t>(code - 1), kPlaceEnds);
  return std::string(" at ") + text;
}

std::string thread_name(const Thread& thread) {
  char text[160];
  const uint3 b = block->index, t = thread.position;
  snprintf(text, sizeof(text), "thread (%u,%u,%u) of block (%u,%u,%u)", t.x, t.y, t.z, b.x, b.y,
           b.z);
  return text;
}

void report(const Thread* by, uint64_t key, const char* format, ...) {
  if (key != 0 && !reported.insert(key).second) return;
  va_list arguments;
  va_start(arguments, format);
  add(by, vformat(format, arguments));
  va_end(arguments);
  if (static_cast<int>(reports.size()) < options().most_reports) return;
  fail("too many reports: the launch stops here");
}

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  add(current, vformat(format, arguments));
  va_end(arguments);
  if (!current || !block) throw Error(take_reports());
  block->stopped = true;
  finish(current->fiber);
}

std::string look_up_places(const std::string& text) { return resolve(text, 0); }

std::string take_reports() {
  std::string all;
  for (const std::string& text : reports) all += (all.empty() ? "" : "\n") + text;
  reports.clear();
  reported.clear();
  return all.empty()
             ? all
             : resolve(all, running ? reinterpret_cast<uintptr_t>(running->call.kernel) : 0);
}

}  // namespace simt
