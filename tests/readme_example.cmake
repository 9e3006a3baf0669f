# The program in the README is the one that is built and run: cmake -D ROOT=<repository> -P …
cmake_minimum_required(VERSION 3.25)

file(READ "${ROOT}/examples/minimal.cpp" example)
file(READ "${ROOT}/README.md" readme)
string(FIND "${example}" "int main()" begin)
string(SUBSTRING "${example}" ${begin} -1 program)
string(FIND "${readme}" "```cpp\n${program}```" at)
if(begin EQUAL -1 OR at EQUAL -1)
  message(FATAL_ERROR "README.md must show main() of examples/minimal.cpp as it is")
endif()
