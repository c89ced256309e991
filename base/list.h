// List<T, Tag>: an intrusive doubly linked list. Nodes unlink themselves on destruction, so a list
// never holds a dangling element. The list does not own its elements. Not thread-safe:
// reactor-owned.
#pragma once

#include <cstddef>

#include "base/check.h"

namespace uk {

template <class T, class Tag>
class List;

// Base class of an element; Tag tells apart the lists one object may be on.
template <class Tag = void>
class ListNode {
 public:
  ListNode() = default;
  ListNode(const ListNode&) = delete;
  ListNode& operator=(const ListNode&) = delete;
  ~ListNode() { unlink(); }

  bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = nullptr;
  }

 private:
  template <class, class>
  friend class List;
  ListNode* prev_ = nullptr;
  ListNode* next_ = nullptr;
};

template <class T, class Tag = void>
class List {
  using Node = ListNode<Tag>;

 public:
  List() { head_.prev_ = head_.next_ = &head_; }
  List(const List&) = delete;
  List& operator=(const List&) = delete;
  ~List() { clear(); }

  bool empty() const { return head_.next_ == &head_; }
  T& front() { return *static_cast<T*>(head_.next_); }
  T& back() { return *static_cast<T*>(head_.prev_); }
  void push_back(T& t) { insert_before(&head_, t); }
  void push_front(T& t) { insert_before(head_.next_, t); }
  T* pop_front() {
    if (empty()) return nullptr;
    T* t = &front();
    static_cast<Node*>(t)->unlink();
    return t;
  }
  void clear() {
    while (!empty()) head_.next_->unlink();
  }
  // Moves all of `other` to the end of this list.
  void splice_back(List& other) {
    if (other.empty()) return;
    Node* first = other.head_.next_;
    Node* last = other.head_.prev_;
    other.head_.prev_ = other.head_.next_ = &other.head_;
    first->prev_ = head_.prev_;
    head_.prev_->next_ = first;
    last->next_ = &head_;
    head_.prev_ = last;
  }

  // Iteration; the current element may be unlinked by the loop's body only if it then leaves the
  // loop.
  class Iterator {
   public:
    explicit Iterator(Node* n) : n_(n) {}
    T& operator*() const { return *static_cast<T*>(n_); }
    T* operator->() const { return static_cast<T*>(n_); }
    Iterator& operator++() {
      n_ = n_->next_;
      return *this;
    }
    bool operator==(const Iterator&) const = default;

   private:
    Node* n_;
  };
  Iterator begin() { return Iterator(head_.next_); }
  Iterator end() { return Iterator(&head_); }

 private:
  void insert_before(Node* at, T& t) {
    Node* n = &t;
    DCHECK(!n->linked());
    n->prev_ = at->prev_;
    n->next_ = at;
    at->prev_->next_ = n;
    at->prev_ = n;
  }
  Node head_;
};

}  // namespace uk
